"""A clip: one continuous piece of footage from any source."""

import hashlib
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from re2pix_node.errors import DataError
from re2pix_node.footage.label_space import Group, LabelMap, LabelSpace, Mask
from re2pix_node.imaging.decode import Picture


class Source(Protocol):
    """Reads pictures and labels in one pass from start to end: indices must rise."""

    def pictures(self, indices: Sequence[int]) -> Generator[Picture, None, None]: ...

    def labels(self, indices: Sequence[int]) -> Generator[Mask, None, None]:
        """Label pictures with the values that the dataset gave them."""

    def place(self, index: int) -> str:
        """The place of a picture, for error messages."""

    def label_place(self, index: int) -> str: ...

    def origins(self) -> list[Path]:
        """All files that are read: while they do not change, pictures and labels do not change."""


class Clip:
    """Frames by index, their stamps, and labels for some of them."""

    def __init__(
        self,
        name: str,
        stamps: Sequence[int],
        labelled: Sequence[int],
        source: Source,
        label_map: LabelMap,
        groups: tuple[Group, ...] = (),
    ) -> None:
        self.name = name
        self.stamps = stamps  # ns, strictly rising
        self.labelled = labelled  # indices, rising
        self.groups = groups  # groups of dataset.yaml: which classes count as one in scoring
        self._source = source
        self._label_map = label_map
        self._labelled = frozenset(labelled)
        self._size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def space(self) -> LabelSpace:
        """The classes of the labels."""
        return self._label_map.space

    def identity(self) -> str:
        """A hash that changes with the files, stamps or meaning of the labels. It reads no footage."""
        files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self._source.origins()]
        facts = (files, list(self.stamps), list(self.labelled), self.space, self._label_map.values)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def frame(self, index: int) -> Picture:
        """One frame, u8 [h, w, 3] RGB. Videos and bags are read up to it; for many frames use `frames`."""
        with closing(self.frames([index])) as frames:
            return next(frames)

    def labels(self, index: int) -> Mask | None:
        """Class ids u8 [h, w] of a frame, 255 = ignore, or None. For many frames use `label_frames`."""
        if index not in self._labelled:
            return None
        with closing(self.label_frames([index])) as labels:
            return next(labels)

    def frames(self, indices: Sequence[int]) -> Generator[Picture, None, None]:
        """The frames at rising indices, read once from start to end."""
        indices = self._checked(indices)
        with closing(self._source.pictures(indices)) as pictures:
            for index, picture in zip(indices, pictures, strict=True):
                size = _size(picture)
                first = self._size = self._size or size
                if size != first:
                    raise DataError(
                        f"{self._source.place(index)}: is {_pixels(size)}, other frames of the clip are "
                        f"{_pixels(first)}: scale all to one size, or cut the clip there"
                    )
                yield picture

    def label_frames(self, indices: Sequence[int]) -> Generator[Mask, None, None]:
        """The labels at rising, labelled indices, at the size of the frames, read once from start to end."""
        indices = self._checked(indices)
        size = self._size or _size(self.frame(0))
        with closing(self._source.labels(indices)) as masks:
            for index, mask in zip(indices, masks, strict=True):
                where = self._source.label_place(index)
                if not _same_view(_size(mask), size):
                    raise DataError(
                        f"{where}: is {_pixels(_size(mask))}, its frame is {_pixels(size)}: labels must have the "
                        "size of the frame, or its aspect ratio"
                    )
                yield _resized(self._label_map(mask, where), size)

    def _checked(self, indices: Sequence[int]) -> list[int]:
        indices = list(indices)
        if indices != sorted(set(indices)) or (indices and not 0 <= indices[0] <= indices[-1] < len(self)):
            raise ValueError(f"indices of {self.name} must rise and lie from 0 to {len(self) - 1}")
        return indices


def clip_name(path: Path) -> str:
    """A name that does not depend on how the path was written: real/val/gopro_max.mp4."""
    return "/".join(path.resolve().parts[1:][-3:])


def _size(picture: Picture | Mask) -> tuple[int, int]:
    return picture.shape[0], picture.shape[1]


def _same_view(labels: tuple[int, int], frame: tuple[int, int]) -> bool:
    """Whether the two sizes have the same aspect ratio, to within a pixel."""
    if min(labels) == 0:
        return False
    small, large = sorted((labels, frame))
    return abs(large[1] * small[0] / large[0] - small[1]) < 1 or abs(large[0] * small[1] / large[1] - small[0]) < 1


def _resized(mask: Mask, size: tuple[int, int]) -> Mask:
    if mask.shape == size:
        return mask
    return np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels"
