"""Fit camera frames to the model's input size, and map model pixels back to camera pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

FITS = ("crop", "stretch", "pad")


@dataclass(frozen=True)
class Region:
    """The part of the camera image that a grid covers with equal cells, in continuous pixels; see ImageRegion.msg."""

    image_width: int
    image_height: int
    x: float
    y: float
    width: float
    height: float

    def cell(self, row: int, column: int, rows: int, columns: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, in camera pixels, of one cell of a rows x columns grid over the region."""
        cell_width, cell_height = self.width / columns, self.height / rows
        left, top = self.x + column * cell_width, self.y + row * cell_height
        return left, top, left + cell_width, top + cell_height


def fit_frame(rgb: Picture, height: int, width: int, fit: str) -> tuple[Picture, Region]:
    """The frame at the model's size, and the region of the camera image that it shows.

    crop: the largest centred part with the model's aspect ratio. stretch: the whole image, with one scale per axis.
    pad: the whole image with its aspect ratio, and a black border. A frame that already has the size is not copied.
    """
    if fit not in FITS:
        raise ValueError(f"fit {fit!r} is not known: use one of {', '.join(FITS)}")
    image_height, image_width = rgb.shape[:2]
    if fit == "crop":
        return _crop(rgb, height, width)
    if fit == "pad":
        return _pad(rgb, height, width)
    return _resize(rgb, height, width), Region(image_width, image_height, 0.0, 0.0, image_width, image_height)


def _crop(rgb: Picture, height: int, width: int) -> tuple[Picture, Region]:
    image_height, image_width = rgb.shape[:2]
    crop_width = min(image_width, max(1, round(image_height * width / height)))
    crop_height = min(image_height, max(1, round(image_width * height / width)))
    x, y = (image_width - crop_width) // 2, (image_height - crop_height) // 2
    region = Region(image_width, image_height, x, y, crop_width, crop_height)
    return _resize(rgb[y : y + crop_height, x : x + crop_width], height, width), region


def _pad(rgb: Picture, height: int, width: int) -> tuple[Picture, Region]:
    image_height, image_width = rgb.shape[:2]
    inner_width = min(width, max(1, round(image_width * height / image_height)))
    inner_height = min(height, max(1, round(image_height * width / image_width)))
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    # Camera pixels per model pixel, from the rounded size: the two axes may differ slightly.
    x_scale, y_scale = image_width / inner_width, image_height / inner_height
    region = Region(image_width, image_height, -left * x_scale, -top * y_scale, width * x_scale, height * y_scale)
    inner = _resize(rgb, inner_height, inner_width)
    if inner.shape[:2] == (height, width):
        return inner, region
    padded = np.zeros((height, width, 3), np.uint8)
    padded[top : top + inner_height, left : left + inner_width] = inner
    return padded, region


def _resize(rgb: Picture, height: int, width: int) -> Picture:
    """Shrink the axes that must shrink, then enlarge the axes that must grow.

    One step cannot do both: OpenCV's area filter becomes a bilinear one, which aliases, as soon as one axis grows.
    """
    rgb_height, rgb_width = rgb.shape[:2]
    shrunk = _filtered(rgb, min(height, rgb_height), min(width, rgb_width), cv2.INTER_AREA)
    return np.ascontiguousarray(_filtered(shrunk, height, width, cv2.INTER_LINEAR))


def _filtered(rgb: Picture, height: int, width: int, interpolation: int) -> Picture:
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=interpolation), np.uint8)
