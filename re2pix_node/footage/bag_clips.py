"""Clips from rosbag2 recordings: a camera topic, and the simulator's segmentation if there is one."""

import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from re2pix_node.errors import DataError, ImageError
from re2pix_node.footage.clip import Clip, clip_name
from re2pix_node.footage.dataset_yaml import SETTINGS, DatasetSettings
from re2pix_node.footage.label_space import Mask
from re2pix_node.imaging.decode import Picture, decode
from re2pix_node.recordings.reader import BagFrame, CameraTopic, Recording, open_recording

BAG_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
TRUTH = "/ground_truth/"  # the simulator's labels: never a camera
SEGMENTATION = f"{TRUTH}segmentation"


def bag_clips(path: Path, settings: DatasetSettings, topic: str | None = None) -> list[Clip]:
    """One clip for each stretch in which time moves forward; a looped recording gives several."""
    settings.refuse("rate", "images", "labels", why=f"{path} is a recording, which has stamps and labels of its own")
    with open_recording(path) as recording:
        camera = _camera(recording, topic or settings.topic)
        truth = next((c for c in recording.cameras if c.name == SEGMENTATION), None)
        stamps = _stamps(recording, camera)
        truth_stamps = _stamps(recording, truth) if truth else []
    if not stamps:
        raise DataError(f"{path}: {camera.name} holds no frames: record it again")
    label_numbers = _label_numbers(stamps, truth_stamps)
    if truth_stamps and not label_numbers:
        raise DataError(
            f"{path}: no message of {SEGMENTATION} has the header stamp of a frame of {camera.name}: "
            "record both with the same stamps"
        )
    whole = _BagSource(path, camera, truth, (), (), label_numbers)
    clips = []
    for number, messages in enumerate(_stretches(stamps), 1):
        source = replace(whole, messages=tuple(messages), stamps=tuple(stamps[message] for message in messages))
        labelled = [index for index, message in enumerate(messages) if message in label_numbers]
        clips.append(Clip(clip_name(path), source.stamps, labelled, source, settings.label_map, settings.groups))
        if number > 1:
            clips[-1].name += f"#{number}"
    return clips


def _camera(recording: Recording, topic: str | None) -> CameraTopic:
    if topic and topic.startswith(TRUTH):
        raise DataError(f"{recording.path}: {topic} is ground truth and not a camera: choose another topic")
    if topic:
        return recording.camera(topic)
    cameras = [camera for camera in recording.cameras if not camera.name.startswith(TRUTH)]
    if len(cameras) > 1:
        raise DataError(
            f"{recording.path}: holds several camera topics, {', '.join(camera.name for camera in cameras)}: "
            f"choose one by 'topic: NAME' in a {SETTINGS} beside the recording"
        )
    if not cameras:
        raise DataError(f"{recording.path}: holds no camera topic (Image or CompressedImage): record one")
    return cameras[0]


def _stamps(recording: Recording, topic: CameraTopic) -> list[int]:
    stamps = [frame.stamp for frame in recording.frames(topic)]
    if recording.problem:
        warnings.warn(f"{topic.name}: {recording.problem}", stacklevel=2)
    return stamps


def _stretches(stamps: Sequence[int]) -> list[list[int]]:
    """Messages with rising stamps. A repeated stamp is skipped; a jump back starts a new stretch, as in the node."""
    stretches = [[0]]
    for message, stamp in enumerate(stamps):
        newest = stamps[stretches[-1][-1]]
        if stamp > newest:
            stretches[-1].append(message)
        elif stamp < newest:
            stretches.append([message])
    return stretches


def _label_numbers(stamps: Sequence[int], truth_stamps: Sequence[int]) -> dict[int, int]:
    """Segmentation messages by camera message: among those of one stamp, the n-th belongs to the n-th."""
    known = {key: number for number, key in enumerate(_numbered(truth_stamps))}
    return {message: known[key] for message, key in enumerate(_numbered(stamps)) if key in known}


def _numbered(stamps: Sequence[int]) -> Iterator[tuple[int, int]]:
    seen: Counter[int] = Counter()
    for stamp in stamps:
        yield stamp, seen[stamp]
        seen[stamp] += 1


@dataclass(frozen=True)
class _BagSource:
    path: Path
    camera: CameraTopic
    truth: CameraTopic | None
    messages: tuple[int, ...]  # numbers of the camera messages, by index in the clip
    stamps: tuple[int, ...]
    label_numbers: dict[int, int]  # number of the segmentation message by number of the camera message

    def pictures(self, indices: Sequence[int]) -> Generator[Picture, None, None]:
        wanted = [self.messages[index] for index in indices]
        for index, frame in zip(indices, self._read(self.camera, wanted), strict=True):
            yield _decoded(frame.message, self.place(index))

    def labels(self, indices: Sequence[int]) -> Generator[Mask, None, None]:
        assert self.truth is not None
        wanted = [self.label_numbers[self.messages[index]] for index in indices]
        for index, frame in zip(indices, self._read(self.truth, wanted), strict=True):
            encoding = getattr(frame.message, "encoding", "compressed")
            if encoding != "mono8":
                raise DataError(f"{self.label_place(index)}: is {encoding}: publish class ids as Image mono8")
            yield np.ascontiguousarray(_decoded(frame.message, self.label_place(index))[:, :, 0])

    def place(self, index: int) -> str:
        return f"{self.path}: {self.camera.name} at {self.stamps[index]} ns"

    def label_place(self, index: int) -> str:
        return f"{self.path}: {SEGMENTATION} at {self.stamps[index]} ns"

    def origins(self) -> list[Path]:
        return sorted(file for file in self.path.iterdir() if file.is_file()) if self.path.is_dir() else [self.path]

    def _read(self, topic: CameraTopic, wanted: Sequence[int]) -> Iterator[BagFrame]:
        """Messages of a topic by their numbers, in the requested order, in one pass."""
        if not wanted:
            return
        keep = set(wanted)
        early: dict[int, BagFrame] = {}  # messages that were recorded before their turn
        with open_recording(self.path) as recording:
            numbered = islice(enumerate(recording.frames(topic)), max(wanted) + 1)
            for number in wanted:
                while number not in early:
                    position, frame = next(numbered, (None, None))
                    if position is None or frame is None:
                        raise DataError(f"{self.path}: {topic.name} lost frames since it was opened: open it again")
                    if position in keep:
                        early[position] = frame
                yield early.pop(number)


def _decoded(message: Any, where: str) -> Picture:
    try:
        return decode(message)
    except ImageError as error:
        raise DataError(f"{where}: {error}") from error
