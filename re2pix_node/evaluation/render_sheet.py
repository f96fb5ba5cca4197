"""Pictures of several clips in lines and columns, for people to judge."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import cv2
import numpy as np

from re2pix_node.imaging.decode import Picture

WIDTH = 1800  # pixels, at most
GAP = 4
PAPER, INK = 255, (0, 0, 0)
Item = TypeVar("Item")


def evenly(items: Sequence[Item], count: int | None) -> list[Item]:
    """At most this many items, each from the middle of an equal share."""
    count = min(count or len(items), len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def sheet(lines: Sequence[tuple[str, Mapping[str, Picture]]]) -> Picture:
    """Draw each line with its caption above its pictures; the titles of the pictures are above the first line."""
    titles = list(lines[0][1])
    most = (WIDTH + GAP) // len(titles) - GAP
    rows = [_joined([_scaled(panels[title], most) for title in titles]) for _, panels in lines]
    width = rows[0].shape[1]
    letters = max(0.4, 0.7 * width / WIDTH)  # legible when a page shows the sheet at half its size
    column = (width + GAP) // len(titles) - GAP
    parts = [_joined([_written(title, column, letters) for title in titles])]
    for (caption, _), row in zip(lines, rows, strict=True):
        parts += [_written(caption, width, letters), row]
    return np.vstack(parts)


def _scaled(picture: Picture, most: int) -> Picture:
    height, width = picture.shape[:2]
    if width <= most:
        return picture
    size = (most, round(height * most / width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _joined(panels: Sequence[Picture]) -> Picture:
    between = [np.pad(panel, ((0, 0), (0, GAP), (0, 0)), constant_values=PAPER) for panel in panels]
    return np.hstack(between)[:, :-GAP]


def _written(text: str, width: int, letters: float) -> Picture:
    bar = np.full((round(40 * letters), width, 3), PAPER, np.uint8)
    while cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, letters, 1)[0][0] > width - GAP:
        text = text[1:]  # the end of a path says more than its start
    cv2.putText(bar, text, (GAP, round(28 * letters)), cv2.FONT_HERSHEY_SIMPLEX, letters, INK, 1, cv2.LINE_AA)
    return bar
