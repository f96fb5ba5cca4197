"""The corridor ahead of the vehicle in the camera image, and the moving classes expected in it. Knows no ROS."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from re2pix_node.imaging.geometry import Region

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Corridor:
    """A trapezoid on the lower edge of the camera image, in fractions of the image's width or height."""

    bottom_width: float  # at the lower edge of the image
    top_width: float  # at the far edge of the corridor
    top: float  # height of the far edge: 0 is the upper edge of the image, 1 the lower
    centre: float  # 0 is the left edge of the image, 1 the right

    def inside(self, region: Region, rows: int, columns: int) -> NDArray[np.bool_]:
        """The cells of a rows x columns grid over the region whose centre is in the corridor."""
        u = (region.x + (np.arange(columns) + 0.5) * region.width / columns) / region.image_width
        v = (region.y + (np.arange(rows) + 0.5) * region.height / rows) / region.image_height
        nearness = (v - self.top) / (1 - self.top)  # 0 at the far edge, 1 at the lower edge of the image
        reach = (self.top_width + (self.bottom_width - self.top_width) * nearness) / 2
        # Cells beyond the image are padding and have no meaning.
        in_rows = (nearness >= 0) & (nearness <= 1)
        in_columns = (u >= 0) & (u <= 1)
        across = np.abs(u - self.centre)[None] <= reach[:, None]
        return np.asarray(across & in_rows[:, None] & in_columns, np.bool_)


@dataclass(frozen=True)
class Entry:
    """A class in the corridor."""

    horizon: int  # index of the horizon: 0 is now
    class_id: int
    share: float  # share of the corridor that it covers
    confidence: float  # mean confidence of its pixels there


def intrusion(
    masks: Mapping[int, tuple[Mask, Mask]],
    moving: Collection[int],
    inside: NDArray[np.bool_],
    min_share: float,
    min_confidence: float,
) -> Entry | None:
    """The earliest horizon at which a moving class is in the corridor, with the moving class that covers most of it.

    `masks` has labels and confidence (0 to 255) for every horizon that can be trusted. A class that covers less than
    `min_share` of the corridor, or has less than `min_confidence` there, does not count.
    """
    for horizon in sorted(masks):
        entries = [
            entry
            for entry in _entries(horizon, *masks[horizon], moving, inside)
            if entry.share >= min_share and entry.confidence >= min_confidence
        ]
        if entries:
            return max(entries, key=lambda entry: entry.share)
    return None


def _entries(
    horizon: int, labels: Mask, confidence: Mask, moving: Collection[int], inside: NDArray[np.bool_]
) -> list[Entry]:
    found = labels[inside]
    pixels = np.bincount(found, minlength=256)
    sure = np.bincount(found, confidence[inside] / 255, minlength=256)
    return [
        Entry(horizon, class_id, float(pixels[class_id] / found.size), float(sure[class_id] / pixels[class_id]))
        for class_id in moving
        if pixels[class_id]
    ]
