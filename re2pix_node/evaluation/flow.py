"""Optical flow, and the next moments if everything keeps its velocity."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def backward_flow(now: NDArray[np.uint8], before: NDArray[np.uint8]) -> Array:
    """[H, W, 2]: for each pixel of `now`, the shift (right, down) to the same point in `before`."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (now, before)]
    return np.asarray(dis.calc(grey[0], grey[1], None), np.float32)


def on_grid(flow: Array, height: int, width: int) -> Array:
    """The flow of each cell of a grid over the same picture, in cells."""
    rows, columns = flow.shape[:2]
    filtered = cv2.INTER_AREA if height <= rows and width <= columns else cv2.INTER_LINEAR
    cells = np.asarray(cv2.resize(flow, (width, height), interpolation=filtered))
    scaled: Array = cells * np.array([width / columns, height / rows], np.float32)
    return scaled


def warp_smooth(grid: Array, flow: Array, steps: int) -> Array:
    """[h, w, C], moved `steps` on at constant velocity, interpolated; what enters the picture repeats its border."""
    x, y = _sources(flow, steps)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, grid.shape[1] - 1), np.minimum(top + 1, grid.shape[0] - 1)
    across, down = (x - left)[..., None], (y - top)[..., None]
    upper = grid[top, left] * (1 - across) + grid[top, right] * across
    lower = grid[bottom, left] * (1 - across) + grid[bottom, right] * across
    warped: Array = upper * (1 - down) + lower * down
    return warped


def warp_nearest(mask: Array, flow: Array, steps: int) -> Array:
    """[h, w], as `warp_smooth`, but with the nearest value instead of interpolation."""
    x, y = _sources(flow, steps)
    warped: Array = mask[np.rint(y).astype(int), np.rint(x).astype(int)]
    return warped


def _sources(flow: Array, steps: int) -> tuple[Array, Array]:
    """The source of each cell. The flow of the future cell is not known; the flow of the present cell replaces it."""
    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32) + steps * flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + steps * flow[..., 1]
    return x.clip(0, width - 1), y.clip(0, height - 1)
