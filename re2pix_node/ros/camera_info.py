"""Scales the calibration of a camera to the masks, so that it projects points into masks as into the image."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.errors import Re2pixError
from re2pix_node.imaging.geometry import Region

Matrix = NDArray[np.float64]


def scaled(message: Any, region: Region, height: int, width: int) -> Any:
    """A copy of a CameraInfo for masks of height x width that cover `region` of that camera's images.

    The copy describes the masks as images: not binned, without a region of interest. It keeps the stamp.
    """
    _require_finite(message)
    _require_match(message, region)
    x_binning, y_binning = _binning(message)
    # From masks to the sensor's full resolution, to which the matrices belong, in continuous pixels.
    x_scale = width / (region.width * x_binning)
    y_scale = height / (region.height * y_binning)
    left = message.roi.x_offset + region.x * x_binning
    top = message.roi.y_offset + region.y * y_binning
    # The matrices use whole numbers for the centres of pixels; continuous coordinates are half a pixel larger there.
    to_masks = np.array(
        [
            [x_scale, 0.0, (0.5 - left) * x_scale - 0.5],
            [0.0, y_scale, (0.5 - top) * y_scale - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    made = copy.deepcopy(message)
    made.height, made.width = height, width
    made.k = _projected(to_masks, message.k)
    made.p = _projected(to_masks, message.p)
    made.binning_x = made.binning_y = 0
    made.roi.x_offset = made.roi.y_offset = made.roi.height = made.roi.width = 0
    made.roi.do_rectify = False
    _require_finite(made)
    return made


def _projected(to_masks: Matrix, matrix: Any) -> Matrix:
    """Scale the matrix; the fourth column of P, [Tx, Ty, 0], is only scaled. Zeros of an uncalibrated camera stay."""
    return (to_masks @ np.reshape(matrix, (3, -1))).reshape(-1)


def _binning(message: Any) -> tuple[int, int]:
    return max(1, message.binning_x), max(1, message.binning_y)


def _require_finite(message: Any) -> None:
    for name in ("k", "p", "r", "d"):
        if not np.isfinite(np.asarray(getattr(message, name), np.float64)).all():
            raise Re2pixError(
                f"camera_info has NaN or infinity in {name.upper()}: it is not published, calibrate the camera again"
            )


def _require_match(message: Any, region: Region) -> None:
    x_binning, y_binning = _binning(message)
    # The driver's rule: a region of interest of 0 x 0 is the whole sensor; incomplete bins are cut off.
    width = (message.roi.width or message.width) // x_binning
    height = (message.roi.height or message.height) // y_binning
    if (width, height) != (region.image_width, region.image_height):
        raise Re2pixError(
            f"camera_info is for images of {width} x {height}, and these are {region.image_width} x "
            f"{region.image_height}: ~/input/camera_info must come from the same camera as ~/input/image"
        )
