"""Drives with everything known about them, as plain arrays in one file each: what a training that learns flow reads."""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.common.archives import load_arrays
from re2pix_node.common.files import open_regular
from re2pix_node.common.limits import ARRAY_BYTES
from re2pix_node.errors import DataError

HALF = 2  # labels, depth and instances are kept at half the size of the pictures


@dataclass(frozen=True)
class ExactDrive:
    """Frames one stride apart."""

    pictures: NDArray[np.uint8]  # [n, H, W, 3] RGB
    labels: NDArray[np.uint8]  # [n, H / 2, W / 2] train ids of Cityscapes, 255 = unknown
    depth: NDArray[np.float16]  # [n, H / 2, W / 2], metres; the sky is infinite
    instances: NDArray[np.int16]  # [n, H / 2, W / 2], 0 = stands still
    camera: NDArray[np.float64]  # [n, 4, 4], to the map
    objects: NDArray[np.float64]  # [n, instances, 4, 4], to the map; NaN where it is not there
    intrinsics: NDArray[np.float64]  # [3, 3]

    def save(self, path: Path) -> None:
        """Readers see the file only when it is whole."""
        partial = path.with_name(f".{path.name}")
        with partial.open("wb") as file:
            arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
            np.savez(file, **arrays)
        partial.rename(path)

    @classmethod
    def load(cls, path: Path) -> "ExactDrive":
        try:
            with open_regular(path) as file:
                arrays = load_arrays(file, ARRAY_BYTES)
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: is not an exact drive ({error}): simulate it again") from None
