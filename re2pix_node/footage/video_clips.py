"""Clips from video files, with labels from NAME.labels.npz in the same folder."""

import math
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.common.archives import open_archive
from re2pix_node.common.files import open_regular
from re2pix_node.errors import DataError
from re2pix_node.footage.clip import Clip, clip_name
from re2pix_node.footage.dataset_yaml import SETTINGS, DatasetSettings
from re2pix_node.footage.label_space import Mask
from re2pix_node.imaging.decode import Picture

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi")
_LABELS = "labels.npy"
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, NotImplementedError, RuntimeError)
_LARGEST = 1 << 26  # maximum pixels of a mask: a small file could otherwise unpack to all memory
_MATROSKA = b"\x1aE\xdf\xa3"
_MP4_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx")
_RATES_DIFFER = 0.02  # rates that differ by more than this share: labels and video do not belong together


def video_clip(path: Path, settings: DatasetSettings) -> Clip:
    settings.refuse("topic", "images", "labels", why=f"{path} is a video")
    stamps, trusted = _stamps(path, settings.rate)
    labels = None
    file = path.with_suffix(".labels.npz")
    if file.is_file():
        labels = _LabelFile(file)
        labels.check(path, stamps)
    source = _VideoSource(path, stamps, trusted, labels)
    labelled = range(len(stamps)) if labels else ()
    return Clip(clip_name(path), stamps, labelled, source, settings.label_map, settings.groups)


def _stamps(path: Path, rate: float | None) -> tuple[list[int], bool]:
    """When each frame is shown, in ns, and whether these times come from the container."""
    with _video(path, packets=True) as packets:
        # Packets are not decoded here; they are in the order in which a decoder needs them.
        milliseconds = []
        while packets.grab():
            milliseconds.append(packets.get(cv2.CAP_PROP_POS_MSEC))
        nominal = packets.get(cv2.CAP_PROP_FPS)
    if not milliseconds:
        raise DataError(f"{path}: holds no frames: copy or record it again")
    if rate is None:
        stamps = sorted(round(ms * 1e6) if math.isfinite(ms) else -1 for ms in milliseconds)
        if stamps[0] >= 0 and all(later > earlier for earlier, later in pairwise(stamps)):
            return stamps, True
        if not (math.isfinite(nominal) and 0 < nominal <= 1000):
            raise DataError(f"{path}: has neither usable timestamps nor a rate: put rate into a {SETTINGS} beside it")
        rate = nominal
    return [round(index * NANOSECONDS / rate) for index in range(len(milliseconds))], False


@contextmanager
def _video(path: Path, packets: bool = False) -> Iterator[cv2.VideoCapture]:
    _require_container(path)
    try:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1] if packets else [])
    except cv2.error as error:
        raise DataError(f"{path}: cannot be opened as a video ({error.err}): convert it to H.264 in MP4") from error
    try:
        if not capture.isOpened():
            raise DataError(f"{path}: is not a video that OpenCV reads: copy it again, or convert it to H.264 in MP4")
        yield capture
    finally:
        capture.release()


def _require_container(path: Path) -> None:
    """FFmpeg also reads play lists, which name other files and hosts, whatever the suffix says."""
    try:
        with open_regular(path) as file:
            start = file.read(12)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check it and its permissions") from error
    if start[4:8] not in _MP4_BOXES and not start.startswith(_MATROSKA) and not start.startswith(b"RIFF"):
        raise DataError(f"{path}: is not a video that OpenCV reads: copy it again, or convert it to H.264 in MP4")


@dataclass(frozen=True)
class _VideoSource:
    path: Path
    stamps: Sequence[int]
    trusted: bool
    label_file: "_LabelFile | None"

    def pictures(self, indices: Sequence[int]) -> Generator[Picture, None, None]:
        with _video(self.path) as video:
            position = -1
            for index in indices:
                while position < index:
                    if not video.grab():
                        raise DataError(
                            f"{self.path}: only {position + 1} of {len(self.stamps)} frames can be decoded: it is "
                            "damaged, copy it again, or encode it again with ffmpeg"
                        )
                    position += 1
                self._check_time(index, video.get(cv2.CAP_PROP_POS_MSEC))
                whole, bgr = video.retrieve()
                if not whole:
                    raise DataError(f"{self.place(index)}: cannot be decoded: encode it again with ffmpeg")
                yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)

    def labels(self, indices: Sequence[int]) -> Generator[Mask, None, None]:
        assert self.label_file is not None
        return self.label_file.masks(indices)

    def place(self, index: int) -> str:
        return f"{self.path}: frame {index}"

    def label_place(self, index: int) -> str:
        assert self.label_file is not None
        return f"{self.label_file.path}: labels[{index}]"

    def origins(self) -> list[Path]:
        return [self.path, self.label_file.path] if self.label_file else [self.path]

    def _check_time(self, index: int, milliseconds: float) -> None:
        # If an edit list or damage hides frames, the counted packets are not the decoded frames.
        if self.trusted and abs(milliseconds * 1e6 - self.stamps[index]) > 1e6:
            raise DataError(
                f"{self.place(index)}: is shown at {milliseconds:g} ms, and not at {self.stamps[index] / 1e6:g} ms as "
                "the file lists it: encode it again with ffmpeg"
            )


class _LabelFile:
    """NAME.labels.npz, read mask by mask: the masks of an hour do not fit into memory. Nothing in it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as file, open_archive(file) as archive:
                with archive.open(_LABELS) as stream:
                    self.shape, fortran, kind = _header(stream)
                with archive.open("fps.npy") as stream:
                    self.rate = _number(stream)
        except _DAMAGE as error:
            raise DataError(f"{path}: cannot be read ({error}): it must hold labels u8 [n, h, w] and fps") from error
        if kind != np.uint8 or fortran or len(self.shape) != 3:
            raise DataError(f"{path}: labels is {kind} {list(self.shape)}: store it as uint8 [n, h, w] in C order")
        if self.shape[1] * self.shape[2] > _LARGEST:
            raise DataError(f"{path}: labels is {list(self.shape)}: no frame is that large, create it again")

    def check(self, video: Path, stamps: Sequence[int]) -> None:
        if self.shape[0] != len(stamps):
            raise DataError(
                f"{self.path}: holds labels for {self.shape[0]} frames, {video.name} has {len(stamps)}: create it again"
            )
        span = stamps[-1] - stamps[0]
        rate = (len(stamps) - 1) * NANOSECONDS / span if span else self.rate
        if not abs(self.rate - rate) <= _RATES_DIFFER * rate:
            raise DataError(f"{self.path}: fps is {self.rate:g}, {video.name} has {rate:g}: create the labels again")

    def masks(self, indices: Sequence[int]) -> Generator[Mask, None, None]:
        _, height, width = self.shape
        try:
            with open_regular(self.path) as file, open_archive(file) as archive, archive.open(_LABELS) as stream:
                _header(stream)
                position = 0
                for index in indices:
                    while position <= index:
                        data = stream.read(height * width)
                        position += 1
                    if len(data) < height * width:
                        raise EOFError(f"it ends at labels[{index}]")
                    yield np.frombuffer(data, np.uint8).reshape(height, width)
        except _DAMAGE as error:
            raise DataError(f"{self.path}: cannot be read ({error}): create it again") from error


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
    if version != (1, 0):  # NumPy reads headers of others whole, however long they are
        raise ValueError(f"npy format {version}")
    header: tuple[tuple[int, ...], bool, np.dtype[Any]]
    header = np.lib.format.read_array_header_1_0(stream)  # type: ignore[no-untyped-call]
    return header


def _number(stream: IO[bytes]) -> float:
    shape, _, kind = _header(stream)
    if shape != () or kind.kind not in "fiu":
        raise ValueError(f"fps is {kind} {list(shape)} and not a number")
    return float(np.frombuffer(stream.read(kind.itemsize), kind)[0])
