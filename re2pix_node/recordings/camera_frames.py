"""Frames of a recording as a camera would send them: as recorded, or in another encoding or size. Knows no ROS."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from re2pix_node.common.limits import PIXELS
from re2pix_node.errors import ImageError, Re2pixError
from re2pix_node.imaging.decode import Picture, decode
from re2pix_node.recordings.reader import BagFrame, CameraTopic, Recording

ENCODINGS = ("bgr8", "rgb8", "jpeg")
_RAW_FIELDS = ("height", "width", "encoding", "is_bigendian", "step", "data")
_COMPRESSED_FIELDS = ("format", "data")


@dataclass(frozen=True)
class Form:
    """Encoding and size of the frames to send; None means as recorded."""

    encoding: str | None = None
    size: tuple[int, int] | None = None  # width, height

    def message_type(self, camera: CameraTopic) -> str:
        if self.encoding is None:
            return camera.type
        return "CompressedImage" if self.encoding == "jpeg" else "Image"


@dataclass(frozen=True)
class CameraFrame:
    """A frame to send, with the times of the recording in nanoseconds."""

    stamp: int
    received: int
    frame_id: str
    fields: dict[str, Any]  # the fields of the message, without its header


class CameraFrames:
    """The frames of one camera in one form; frames that cannot be converted are skipped and counted."""

    def __init__(self, recording: Recording, camera: CameraTopic, form: Form) -> None:
        self._recording = recording
        self._camera = camera
        self._form = form
        self.undecodable = 0

    def __iter__(self) -> Iterator[CameraFrame]:
        for frame in self._recording.frames(self._camera):
            try:
                fields = _fields(frame, self._form)
            except ImageError:
                self.undecodable += 1
                continue
            yield CameraFrame(frame.stamp, frame.received, frame.frame_id, fields)


def parse_size(text: str) -> tuple[int, int]:
    """1920x1080 as (1920, 1080)."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and len(side) < 10 and int(side) for side in sides):
        raise Re2pixError(f"the size '{text}' is not understood: write width and height, as in 1920x1080")
    width, height = map(int, sides)
    if width * height > PIXELS.value:
        raise Re2pixError(f"the size {text} is too large: {PIXELS}")
    return width, height


def _fields(frame: BagFrame, form: Form) -> dict[str, Any]:
    message = frame.message
    raw = hasattr(message, "encoding")
    if form == Form():
        return {name: getattr(message, name) for name in (_RAW_FIELDS if raw else _COMPRESSED_FIELDS)}
    picture = decode(message)
    if form.size and form.size != picture.shape[1::-1]:
        method = cv2.INTER_AREA if form.size[0] < picture.shape[1] else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(picture, form.size, interpolation=method), np.uint8)
    return _encoded(picture, form.encoding or ("rgb8" if raw else "jpeg"))


def _encoded(picture: Picture, encoding: str) -> dict[str, Any]:
    if encoding == "jpeg":
        data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        return {"format": "jpeg", "data": np.asarray(data, np.uint8).reshape(-1)}
    if encoding == "bgr8":
        picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), np.uint8)
    height, width, _ = picture.shape
    values = (height, width, encoding, 0, 3 * width, picture.reshape(-1))
    return dict(zip(_RAW_FIELDS, values, strict=True))
