"""The demo's pictures: camera, forecasts, and charts of skill and latency. Drawn with OpenCV."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import LabelSpec
from re2pix_node.pipeline.preview import Picture, palette, panel_height

COLUMNS = 3
PANEL_WIDTH = 416
GAP = 8
WIDTH = COLUMNS * PANEL_WIDTH + (COLUMNS + 1) * GAP
CAPTION_HEIGHT = 28
CHART_HEIGHT = 220
MASK_SHARE = 0.55  # share of the colour where a mask is over a picture

_BACKGROUND = (22, 24, 29)
_PLOT = (34, 37, 44)
_INK = (238, 240, 243)
_FAINT = (150, 156, 166)
_ZERO = (205, 208, 214)
_GRID = (58, 62, 71)
# Colour-blind people can distinguish these, and they are bright on a dark ground.
_CURVES = ((240, 175, 60), (95, 190, 240), (80, 200, 150), (225, 130, 185), (240, 228, 110), (170, 150, 240))


@dataclass(frozen=True)
class VideoMoment:
    """The values of one forecast in the charts."""

    seconds: float  # since the drive began
    skill: tuple[float, ...]  # live, of each horizon after the first; NaN where not measured
    latency: float  # ms from sending the image to receiving the forecast


@dataclass(frozen=True)
class Panel:
    """A caption, and a picture with a mask over it; either may be missing."""

    caption: str
    picture: Picture | None
    mask: Picture | None = None


class DemoVideo:
    """Draws one picture for each moment; the charts fill over time."""

    def __init__(
        self,
        labels: LabelSpec,
        horizons: Sequence[str],
        moments: Sequence[VideoMoment],
        shape: float,
        pictures: bool = False,
    ) -> None:
        """`horizons` are the names after the first; `shape` is height by width of the area under the masks; `pictures`:
        whether there is a row for drawn pictures."""
        self._palette = palette(labels)
        self._labels = labels
        self._horizons = horizons
        self._moments = moments
        self._pictures = pictures
        self._size = PANEL_WIDTH, panel_height(shape, PANEL_WIDTH)
        chart_width = round((WIDTH - 3 * GAP) * 0.66)
        left = moments[0].seconds, max(moments[-1].seconds, moments[0].seconds + 1.0)
        skills = [value for moment in moments for value in moment.skill if math.isfinite(value)]
        self._skill = _Chart(chart_width, left, _range_of_skill(skills))
        longest = max(moment.latency for moment in moments)
        self._latency = _Chart(WIDTH - 3 * GAP - chart_width, left, (0.0, max(1.15 * longest, 10.0)))

    def shrink(self, picture: Picture) -> Picture:
        """A picture in the size in which it will be shown."""
        return np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def draw(self, i: int, panels: Sequence[Panel], notes: Sequence[str], below: Sequence[Panel] = ()) -> Picture:
        """Draw one moment; `below` are the panels of the lower row, which stays empty while there are none."""
        rows = self._rows([*map(self._panel, panels), self._legend(notes)])
        if self._pictures:
            rows += self._rows([self._panel(panel) for panel in below or [Panel("", None)] * COLUMNS])
        charts = _row([self._draw_skill(i), self._draw_latency(i)])
        gap = np.full((GAP, WIDTH, 3), _BACKGROUND, np.uint8)
        sheet = np.vstack([part for row in (*rows, charts) for part in (row, gap)])
        # Video encoders need even sizes.
        return np.ascontiguousarray(sheet[: sheet.shape[0] // 2 * 2, : sheet.shape[1] // 2 * 2])

    def _rows(self, tiles: list[Picture]) -> list[Picture]:
        tiles += [np.full_like(tiles[0], _BACKGROUND)] * (-len(tiles) % COLUMNS)
        return [_row(tiles[first : first + COLUMNS]) for first in range(0, len(tiles), COLUMNS)]

    def _panel(self, panel: Panel) -> Picture:
        width, height = self._size
        tile = _blank(width, height + CAPTION_HEIGHT)
        _text(tile, panel.caption, 2, 19)
        shown = np.full((height, width, 3), _PLOT, np.uint8) if panel.picture is None else panel.picture
        if panel.mask is not None:
            coloured = cv2.resize(self._palette[panel.mask], self._size, interpolation=cv2.INTER_NEAREST)
            # The picture below the colours is grey, so that a red car does not look like a class.
            grey = cv2.cvtColor(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            shown = np.asarray(cv2.addWeighted(grey, 1 - MASK_SHARE, coloured, MASK_SHARE, 0), np.uint8)
        tile[CAPTION_HEIGHT:] = shown
        return tile

    def _legend(self, notes: Sequence[str]) -> Picture:
        width, height = self._size
        tile = _blank(width, height + CAPTION_HEIGHT)
        lines = 20
        rows = max(1, (tile.shape[0] - 12 - lines * len(notes)) // 18)
        columns = -(-len(self._labels.classes) // rows)
        for i, c in enumerate(self._labels.classes):
            x, y = width // columns * (i // rows) + 2, 8 + 18 * (i % rows)
            cv2.rectangle(tile, (x, y), (x + 14, y + 12), c.color, -1)
            cv2.rectangle(tile, (x, y), (x + 14, y + 12), _FAINT, 1)
            _text(tile, c.name, x + 21, y + 11, 0.42)
        for i, note in enumerate(reversed(notes)):
            _text(tile, note, 2, tile.shape[0] - 6 - lines * i, 0.45, _FAINT)
        return tile

    def _draw_skill(self, i: int) -> Picture:
        chart = self._skill.blank("live skill by horizon: 1 is perfect, 0 no better than assuming that nothing changes")
        self._skill.zero_line(chart)
        past = self._moments[: i + 1]
        x = self._skill.LEFT
        for k, horizon in enumerate(self._horizons):
            colour = _CURVES[k % len(_CURVES)]
            self._skill.curve(chart, [(moment.seconds, moment.skill[k]) for moment in past], colour)
            x += self._skill.entry(chart, x, f"{horizon}: {_signed(past[-1].skill[k])}", colour) + 24
        return chart

    def _draw_latency(self, i: int) -> Picture:
        past = self._moments[: i + 1]
        chart = self._latency.blank("ms from image sent to forecast received")
        self._latency.curve(chart, [(moment.seconds, moment.latency) for moment in past], _INK)
        self._latency.entry(chart, self._latency.LEFT, f"{past[-1].latency:.0f} ms", _INK)
        return chart


class _Chart:
    """A plot over time: its frame, its scales, and the position of a value in it."""

    LEFT, RIGHT, TOP, BOTTOM = 46, 12, 46, 26

    def __init__(self, width: int, seconds: tuple[float, float], values: tuple[float, float]) -> None:
        self._width = width
        self._seconds = seconds
        self._values = values

    def blank(self, title: str) -> Picture:
        chart = _blank(self._width, CHART_HEIGHT)
        _text(chart, title, 2, 15, 0.45)
        right, bottom = self._width - self.RIGHT, CHART_HEIGHT - self.BOTTOM
        cv2.rectangle(chart, (self.LEFT, self.TOP), (right, bottom), _PLOT, -1)
        for value in _round_steps(*self._values, 5):
            y = self._y(value)
            cv2.line(chart, (self.LEFT, y), (right, y), _GRID, 1)
            text = f"{value:g}"
            _text(chart, text, self.LEFT - 6 - _text_width(text, 0.4), y + 4, 0.4, _FAINT)
        for value in _round_steps(*self._seconds, 8):
            text = f"{value:g} s"
            x = min(self._x(value) - _text_width(text, 0.4) // 2, self._width - _text_width(text, 0.4))
            _text(chart, text, x, CHART_HEIGHT - 8, 0.4, _FAINT)
        return chart

    def zero_line(self, chart: Picture) -> None:
        y = self._y(0.0)
        cv2.line(chart, (self.LEFT, y), (self._width - self.RIGHT, y), _ZERO, 2)

    def curve(self, chart: Picture, points: Sequence[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        """Draw lines between neighbours that both have a value."""
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if math.isfinite(y0) and math.isfinite(y1):
                cv2.line(chart, (self._x(x0), self._y(y0)), (self._x(x1), self._y(y1)), colour, 2, cv2.LINE_AA)
        if points and math.isfinite(points[-1][1]):
            cv2.circle(chart, (self._x(points[-1][0]), self._y(points[-1][1])), 4, colour, -1, cv2.LINE_AA)

    def entry(self, chart: Picture, x: int, text: str, colour: tuple[int, int, int]) -> int:
        """Draw an entry of the legend above the plot and return its width."""
        cv2.line(chart, (x, 34), (x + 20, 34), colour, 3)
        _text(chart, text, x + 27, 38, 0.45)
        return 27 + _text_width(text, 0.45)

    def _x(self, seconds: float) -> int:
        first, last = self._seconds
        span = self._width - self.RIGHT - self.LEFT
        return self.LEFT + round(span * (seconds - first) / (last - first))

    def _y(self, value: float) -> int:
        low, high = self._values
        span = CHART_HEIGHT - self.BOTTOM - self.TOP
        return self.TOP + round(span * (high - min(max(value, low), high)) / (high - low))


def _range_of_skill(skills: Sequence[float]) -> tuple[float, float]:
    """A range that shows all values, the zero line, and a margin."""
    low, high = min(skills, default=0.0), max(skills, default=0.0)
    return max(-1.05, min(-0.2, low - 0.05)), min(1.05, max(0.5, high + 0.05))


def _round_steps(low: float, high: float, about: int) -> list[float]:
    """About this many round numbers between the two."""
    rough = (high - low) / about
    unit = 10 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(n * step, 9) for n in range(first, last + 1)]


def _signed(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else "-"


def _blank(width: int, height: int) -> Picture:
    return np.full((height, width, 3), _BACKGROUND, np.uint8)


def _row(tiles: Sequence[Picture]) -> Picture:
    gap = np.full((tiles[0].shape[0], GAP, 3), _BACKGROUND, np.uint8)
    return np.hstack([gap, *(part for tile in tiles for part in (tile, gap))])


def _text(
    picture: NDArray[np.uint8], text: str, x: int, y: int, size: float = 0.52, colour: tuple[int, int, int] = _INK
) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def _text_width(text: str, size: float) -> int:
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0])
