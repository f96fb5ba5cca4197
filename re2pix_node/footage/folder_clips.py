"""Clips from folders of pictures, with label pictures of the same names."""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.common.files import read_file
from re2pix_node.common.limits import IMAGE_BYTES
from re2pix_node.errors import DataError, ImageError
from re2pix_node.footage.clip import Clip, clip_name
from re2pix_node.footage.dataset_yaml import DatasetSettings
from re2pix_node.footage.label_space import Mask
from re2pix_node.imaging.decode import Picture, decode_compressed
from re2pix_node.imaging.headers import read_header, refuse_beyond

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


def folder_clips(settings: DatasetSettings) -> list[Clip]:
    """A clip for the folder of images, or for each of its subfolders with pictures."""
    images = settings.images
    assert images is not None
    assert settings.rate is not None
    settings.refuse("topic", why="is for recordings")
    clips = []
    for folder in [images, *sorted(path for path in images.rglob("*") if path.is_dir())]:
        files = _in_order([file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES])
        if not files:
            continue
        labels = _labels_of(files, settings.labels / folder.relative_to(images)) if settings.labels else {}
        source = PictureFiles(files, labels)
        stamps = even_stamps(len(files), settings.rate)
        clips.append(Clip(clip_name(folder), stamps, sorted(labels), source, settings.label_map, settings.groups))
    if not clips:
        raise DataError(
            f"{images}: holds no pictures ({' '.join(PICTURE_SUFFIXES)}): correct images in {settings.file}"
        )
    if settings.labels and not any(clip.labelled for clip in clips):
        raise DataError(f"{settings.labels}: holds no labels: store them as PNG, named as their frames")
    return clips


def even_stamps(count: int, rate: float) -> list[int]:
    return [round(index * NANOSECONDS / rate) for index in range(count)]


def _in_order(files: list[Path]) -> list[Path]:
    """Sort by number if the names have numbers, and then none may be missing; else by name."""
    numbers = {file: re.search(r"(\d+)\D*$", file.stem) for file in files}
    if not all(numbers.values()) or len({re.sub(r"\d+(?=\D*$)", "", file.stem) for file in files}) > 1:
        return sorted(files)
    by_number = {file: int(number[1]) for file, number in numbers.items() if number}
    ordered = sorted(files, key=lambda file: (by_number[file], file.name))
    steps = [by_number[later] - by_number[earlier] for earlier, later in pairwise(ordered)]
    if steps and min(steps) == 0:
        twin = steps.index(0)
        raise DataError(f"{ordered[twin]}: has the same number as {ordered[twin + 1].name}: remove one")
    # Steps that are not multiples of the smallest step are times, not frame numbers.
    if steps and all(step % min(steps) == 0 for step in steps):
        for (earlier, later), step in zip(pairwise(ordered), steps, strict=True):
            if step != min(steps):
                raise DataError(
                    f"{earlier.parent}: frame {by_number[earlier] + min(steps)} is missing between {earlier.name} and "
                    f"{later.name}: add it, or make two folders of the pieces"
                )
    return ordered


def _labels_of(files: Sequence[Path], folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    index_of = {file.stem: index for index, file in enumerate(files)}
    labels = {}
    for file in sorted(folder.glob("*.png")):
        if file.stem not in index_of:
            raise DataError(f"{file}: there is no frame {file.stem} in {files[0].parent}: name labels as their frames")
        labels[index_of[file.stem]] = file
    return labels


@dataclass(frozen=True)
class PictureFiles:
    """Frames, and labels by index."""

    files: Sequence[Path]
    label_files: Mapping[int, Path]

    def pictures(self, indices: Sequence[int]) -> Generator[Picture, None, None]:
        for index in indices:
            message = SimpleNamespace(format=self.files[index].suffix[1:], data=_bytes_of(self.files[index]))
            try:
                yield decode_compressed(message)
            except ImageError as error:
                raise DataError(f"{self.files[index]}: {error}") from error

    def labels(self, indices: Sequence[int]) -> Generator[Mask, None, None]:
        for index in indices:
            yield _label_picture(self.label_files[index])

    def place(self, index: int) -> str:
        return str(self.files[index])

    def label_place(self, index: int) -> str:
        return str(self.label_files[index])

    def origins(self) -> list[Path]:
        return [*self.files, *self.label_files.values()]


def _bytes_of(file: Path) -> bytes:
    try:
        return read_file(file, IMAGE_BYTES)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}): check it and its permissions") from error


def _label_picture(file: Path) -> Mask:
    data = _bytes_of(file)
    header = read_header(data)
    whole = header is not None and header.is_whole  # OpenCV fills in the missing part of a truncated PNG
    try:
        if header:
            refuse_beyond(None, header.width, header.height, "a PNG")
        labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if whole else None
    except ImageError as error:
        raise DataError(f"{file}: {error}") from None
    except cv2.error:
        labels = None
    if labels is None:
        raise DataError(f"{file}: cannot be read as a PNG: copy it again")
    if labels.ndim != 2 or labels.dtype != np.uint8:
        channels = labels.shape[2] if labels.ndim == 3 else 1
        raise DataError(
            f"{file}: has {channels} channel{'s' * (channels > 1)} of {labels.dtype}: store class ids as grey, 8 bits "
            "(not as colours or a palette)"
        )
    return np.asarray(labels, np.uint8)
