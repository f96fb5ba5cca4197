"""Previews for people: the camera, the segmentation now and the forecasts side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import NANOSECONDS, UNLABELLED, LabelSpec
from re2pix_node.errors import Re2pixError
from re2pix_node.pipeline.outputs import panels
from re2pix_node.pipeline.pipeline import Forecast

Picture = NDArray[np.uint8]
PANEL_WIDTH = 320
CAPTION_HEIGHT = 26
# A sheet is of bounded size, whatever the camera and the bundle send.
MOST_PANELS = 40
LARGEST_CUT = 4096  # pixels a side
_BACKGROUND = (24, 24, 28)
_INK = (235, 235, 235)


def palette(labels: LabelSpec) -> Picture:
    """[256, 3]: the colour of each mask value."""
    colours = np.zeros((256, 3), np.uint8)
    colours[UNLABELLED] = (0, 0, 0)
    for c in labels.classes:
        colours[c.id] = c.color
    return colours


def contact_sheet(
    frame: Picture,
    masks: list[tuple[str, Picture]],
    notes: list[str],
    labels: LabelSpec,
    pictures: Sequence[tuple[str, Picture]] = (),
) -> Picture:
    """One picture with the frame, each mask over the frame with its caption, pictures with captions, and a panel with
    the class colours and the notes.

    `frame` is the part of the camera image that masks and pictures cover.
    """
    height = panel_height(frame.shape[0] / frame.shape[1], PANEL_WIDTH)
    small = cv2.resize(frame, (PANEL_WIDTH, height), interpolation=cv2.INTER_AREA)
    colours = palette(labels)
    panels = [_captioned("camera", small)]
    for caption, mask in masks[:MOST_PANELS]:
        coloured = cv2.resize(colours[mask], (PANEL_WIDTH, height), interpolation=cv2.INTER_NEAREST)
        panels.append(_captioned(caption, cv2.addWeighted(small, 0.4, coloured, 0.6, 0)))
    for caption, picture in pictures[: MOST_PANELS - len(masks)] if len(masks) < MOST_PANELS else ():
        panels.append(_captioned(caption, cv2.resize(picture, (PANEL_WIDTH, height), interpolation=cv2.INTER_AREA)))
    panels.append(_legend(labels, notes, height + CAPTION_HEIGHT))
    columns = min(3, len(panels))
    blank = np.full_like(panels[0], _BACKGROUND)
    panels += [blank] * (-len(panels) % columns)
    rows = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    # Video encoders need even sizes.
    sheet = np.vstack(rows)
    return np.ascontiguousarray(sheet[: sheet.shape[0] // 2 * 2, : sheet.shape[1] // 2 * 2])


def forecast_sheet(
    frame: Picture, forecast: Forecast, labels: LabelSpec, pictures: Mapping[int, Picture] | None = None
) -> Picture:
    """The contact sheet of one forecast; `frame` is the whole camera image, `pictures` are those drawn, by k."""
    masks = [(moment_caption(horizon), forecast.labels[0, k]) for k, horizon in enumerate(forecast.horizons)]
    region = forecast.region
    notes = [f"stamp {forecast.stamp / NANOSECONDS:.2f} s", f"frames {forecast.spacing / NANOSECONDS:.3f} s apart"]
    drawn = [(f"drawn, {moment_caption(forecast.horizons[k])}", picture) for k, picture in (pictures or {}).items()]
    shown = cut(frame, region.x, region.y, region.width, region.height)
    return contact_sheet(shown, masks, notes, labels, [*panels(forecast, moment_caption), *drawn])


def panel_height(shape: float, width: int) -> int:
    """The height of a panel for a picture of that height by width; very flat and very high ones are distorted."""
    return round(width * min(max(shape, 0.1), 2.0))


def moment_caption(horizon: int) -> str:
    return f"expected in {horizon / NANOSECONDS:.2f} s" if horizon else "now"


def cut(frame: Picture, x: float, y: float, width: float, height: float) -> Picture:
    """Crop a picture to the region; black outside the picture. A very large region comes out smaller."""
    shrink = min(1.0, LARGEST_CUT / max(width, height))
    if shrink < 1:
        size = max(1, round(frame.shape[1] * shrink)), max(1, round(frame.shape[0] * shrink))
        frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
        x, y, width, height = x * shrink, y * shrink, width * shrink, height * shrink
    left, top = round(x), round(y)
    right, bottom = max(left + 1, round(x + width)), max(top + 1, round(y + height))
    inside = frame[max(top, 0) : bottom, max(left, 0) : right]
    margins = max(-top, 0), max(bottom - frame.shape[0], 0), max(-left, 0), max(right - frame.shape[1], 0)
    if not any(margins):
        return inside
    return cv2.copyMakeBorder(inside, *margins, cv2.BORDER_CONSTANT).astype(np.uint8, copy=False)


def _captioned(caption: str, picture: NDArray[np.generic]) -> Picture:
    bar = np.full((CAPTION_HEIGHT, picture.shape[1], 3), _BACKGROUND, np.uint8)
    _write(bar, caption, 8, 18)
    return np.vstack([bar, picture.astype(np.uint8, copy=False)])


def _legend(labels: LabelSpec, notes: list[str], height: int) -> Picture:
    """The class colours in columns, and the notes below them."""
    panel = np.full((height, PANEL_WIDTH, 3), _BACKGROUND, np.uint8)
    row_height, margin = 14, 10
    rows = max(1, (height - 2 * margin - 20 * len(notes)) // row_height)
    columns = -(-len(labels.classes) // rows)
    for i, c in enumerate(labels.classes):
        x = margin + (PANEL_WIDTH - margin) // columns * (i // rows)
        y = margin + row_height * (i % rows)
        cv2.rectangle(panel, (x, y), (x + 12, y + 10), c.color, -1)
        _write(panel, c.name, x + 18, y + 10, 0.36)
    for i, note in enumerate(reversed(notes)):
        _write(panel, note, margin, height - margin - 20 * i)
    return panel


def _write(picture: Picture, text: str, x: int, y: int, size: float = 0.48) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)


def encode_jpeg(picture: Picture) -> Picture:
    """The bytes of a JPEG file."""
    good, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert good  # fails only for pictures larger than 65500 pixels a side
    return data.reshape(-1).astype(np.uint8, copy=False)


def save_picture(path: Path, picture: Picture) -> None:
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise Re2pixError(f"{path}: the picture could not be written: is the folder there, and is there room?")
