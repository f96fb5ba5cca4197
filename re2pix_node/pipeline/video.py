"""Writes pictures as a video."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from re2pix_node.errors import Re2pixError
from re2pix_node.pipeline.preview import Picture

# VP8 plays in every browser and takes 40 ms a picture to encode; MPEG-4 takes 3 ms but needs a desktop player.
_CODECS = {".webm": "VP80", ".mp4": "mp4v"}


class VideoWriter:
    """Writes RGB pictures as a video of the size of the first; the suffix of the name determines the format."""

    def __init__(self, path: Path, frames_per_second: float) -> None:
        if path.suffix not in _CODECS:
            raise Re2pixError(f"{path}: the name of a video ends in {' or '.join(_CODECS)}")
        self._path = path
        self._rate = frames_per_second
        self._writer: cv2.VideoWriter | None = None
        self._size = 0, 0
        self._written = 0

    def write(self, picture: Picture) -> None:
        if self._writer is None:
            self._size = picture.shape[1], picture.shape[0]
            codec = cv2.VideoWriter.fourcc(*_CODECS[self._path.suffix])
            with _quiet_stderr():
                self._writer = cv2.VideoWriter(str(self._path), codec, self._rate, self._size)
            if not self._writer.isOpened():
                raise Re2pixError(
                    f"{self._path}: OpenCV cannot write this video: is there room, or try the other ending"
                )
        self._writer.write(cv2.cvtColor(_fitted(picture, *self._size), cv2.COLOR_RGB2BGR))
        self._written += 1

    def finish(self) -> None:
        """Complete the file; Re2pixError if pictures are missing in it. OpenCV does not say that a disk is full."""
        self.close()
        if not self._written:
            return
        with _quiet_stderr():
            found = cv2.VideoCapture(str(self._path))
            count = found.get(cv2.CAP_PROP_FRAME_COUNT)
            found.release()
        if not self._written - 1 <= count:  # WebM has no duration for the last picture
            raise Re2pixError(f"{self._path}: the video could not be written completely: is the disk full?")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None


def _fitted(picture: Picture, width: int, height: int) -> Picture:
    """The picture at this size, with black borders: OpenCV leaves out pictures of another size without a word."""
    if picture.shape[1::-1] == (width, height):
        return picture
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    fitted = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    fitted[top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA)
    return fitted


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide a meaningless message that OpenCV prints from C: that WebM has no tag for its own codec."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def open_video(path: Path, frames_per_second: float) -> Iterator[VideoWriter]:
    writer = VideoWriter(path, frames_per_second)
    try:
        yield writer
        writer.finish()
    finally:
        writer.close()
