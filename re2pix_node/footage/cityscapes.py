"""Clips from the Cityscapes layout: snippets of 30 frames at 17 Hz, with labels for the 20th frame."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from re2pix_node.errors import DataError
from re2pix_node.footage.clip import Clip
from re2pix_node.footage.dataset_yaml import DatasetSettings, read_settings
from re2pix_node.footage.folder_clips import PictureFiles, even_stamps
from re2pix_node.footage.label_space import CITYSCAPES, cityscapes_label_ids, plain_map

FRAMES = "leftImg8bit_sequence"
LABELS = "gtFine"
RATE = 17
SNIPPET = 30
LABELLED = 19  # index of the labelled frame
_FRAME = re.compile(r"(.+)_(\d{6})_leftImg8bit\.png")
_LABEL = re.compile(r"(.+)_(\d{6})_gtFine_label\w+\.png")


def cityscapes_root(path: Path) -> Path | None:
    """The folder that contains leftImg8bit_sequence, from that folder or from a sequence, split or city in it."""
    path = path.absolute()
    if (path / FRAMES).is_dir():
        return path
    for folder in [path, *path.parents][:3]:
        if folder.name == FRAMES:
            return folder.parent
    return None


def cityscapes_clips(path: Path, settings: DatasetSettings) -> list[Clip]:
    """The snippets at or below a path for which cityscapes_root gives a folder."""
    path, root = path.absolute(), cityscapes_root(path)
    assert root is not None
    settings = settings if settings.file else read_settings(root)
    settings.refuse("rate", "topic", "images", "labels", "classes", "label_map", why="is fixed for Cityscapes")
    frames = root / FRAMES
    cities = [city for city in frames.glob("*/*") if city.is_dir() and (path == root or city.is_relative_to(path))]
    clips = [clip for city in sorted(cities) for clip in _city_clips(root, city, settings)]
    if not clips:
        raise DataError(f"{path}: holds no SPLIT/CITY/*_leftImg8bit.png: unpack {FRAMES} there")
    return clips


def _city_clips(root: Path, city: Path, settings: DatasetSettings) -> Iterator[Clip]:
    split = city.parent.name
    labels = _label_files(root / LABELS / split / city.name)
    sequences: dict[str, dict[int, Path]] = defaultdict(dict)
    for file in city.iterdir():
        match = _FRAME.fullmatch(file.name)
        if match:
            sequences[match[1]][int(match[2])] = file
    for sequence, files in sorted(sequences.items()):
        for numbers in _snippets(city, sequence, files):
            label_files = {
                index: labels[sequence, number] for index, number in enumerate(numbers) if (sequence, number) in labels
            }
            for index, file in label_files.items():
                if index != LABELLED:
                    raise DataError(
                        f"{file}: belongs to frame {index + 1} of the snippet from {numbers[0]:06d} on, and only frame "
                        f"{LABELLED + 1} is labelled: check that the snippet's frames are all there"
                    )
            train_ids = any("labelTrainIds" in file.name for file in label_files.values())
            yield Clip(
                f"{root.resolve().name}/{split}/{sequence}_{numbers[0]:06d}",
                even_stamps(SNIPPET, RATE),
                list(label_files),
                PictureFiles([files[number] for number in numbers], label_files),
                plain_map(CITYSCAPES) if train_ids else cityscapes_label_ids(),
                settings.groups,
            )


def _snippets(city: Path, sequence: str, files: Mapping[int, Path]) -> Iterator[Sequence[int]]:
    left = sorted(files)
    while left:
        numbers = range(left[0], left[0] + SNIPPET)
        for number in numbers:
            if number not in files:
                raise DataError(
                    f"{city / sequence}_{number:06d}_leftImg8bit.png: is missing; the snippet from frame "
                    f"{numbers[0]:06d} on must have {SNIPPET} frames in a row: unpack it again"
                )
        left = left[SNIPPET:]
        yield numbers


def _label_files(city: Path) -> dict[tuple[str, int], Path]:
    """Label pictures by sequence and frame number; if a frame has two, the one with train ids."""
    files = {}
    for kind in ("labelIds", "labelTrainIds"):
        for file in city.glob(f"*_gtFine_{kind}.png"):
            match = _LABEL.fullmatch(file.name)
            if match:
                files[match[1], int(match[2])] = file
    return files
