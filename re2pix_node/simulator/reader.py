"""Reads a simulated drive back from its recording: one DriveFrame for every picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.serde import SerdeError

from re2pix_node.errors import BagError
from re2pix_node.recordings.writer import message_types
from re2pix_node.simulator.mesh import Array
from re2pix_node.simulator.recorder import CAMERA, TOPICS, instance_of

_TYPES = {"mono8": np.uint8, "mono16": np.uint16, "32FC1": np.float32}


@dataclass(frozen=True)
class DriveFrame:
    """One moment of a recording. Fields of topics that were not requested are empty (zero pixels, no objects)."""

    stamp: int
    image: Array
    segmentation: Array
    instances: Array
    depth: Array
    intrinsics: Array
    camera: Array
    objects: dict[int, Array]


def read_drive(path: Path, topics: tuple[str, ...] = tuple(TOPICS)) -> Iterator[DriveFrame]:
    """The frames of a drive in order; `topics` (names of TOPICS) says which fields to read."""
    wanted = {TOPICS[topic] for topic in topics}
    try:
        with Reader(path) as reader:
            connections = [connection for connection in reader.connections if connection.topic in wanted]
            missing = wanted - {connection.topic for connection in connections}
            if missing:
                raise BagError(f"{path}: holds no {', '.join(sorted(missing))}: simulate it with all --topics")
            for stamp, group in groupby(reader.messages(connections), key=lambda entry: entry[1]):
                yield _frame(stamp, {c.topic: message_types().deserialize_cdr(raw, c.msgtype) for c, _, raw in group})
    except (ReaderError, SerdeError, OSError) as error:
        raise BagError(f"{path}: cannot be read ({error}): give the folder of a simulated drive") from error


def _frame(stamp: int, messages: dict[str, Any]) -> DriveFrame:
    poses = {t.child_frame_id: _pose(t.transform) for t in getattr(messages.get(TOPICS["tf"]), "transforms", ())}
    instances = {instance_of(name): pose for name, pose in poses.items()}
    picture, info = messages.get(TOPICS["camera"]), messages.get(TOPICS["camera_info"])
    return DriveFrame(
        stamp=stamp,
        image=np.zeros((0, 0, 3), np.uint8) if picture is None else _rgb(picture),
        segmentation=_pixels(messages.get(TOPICS["segmentation"])),
        instances=_pixels(messages.get(TOPICS["instances"])),
        depth=_pixels(messages.get(TOPICS["depth"])),
        intrinsics=np.eye(3) if info is None else np.asarray(info.k, float).reshape(3, 3),
        camera=poses.get(CAMERA, np.eye(4)),
        objects={instance: pose for instance, pose in instances.items() if instance is not None},
    )


def _rgb(message: Any) -> Array:
    return cv2.cvtColor(cv2.imdecode(message.data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _pixels(message: Any) -> Array:
    if message is None:
        return np.zeros((0, 0), np.uint8)
    return np.frombuffer(message.data.tobytes(), _TYPES[message.encoding]).reshape(message.height, message.width)


def _pose(transform: Any) -> Array:
    q, t = transform.rotation, transform.translation
    x, y, z, w = q.x, q.y, q.z, q.w
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), t.x],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), t.y],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), t.z],
        [0, 0, 0, 1],
    ])  # fmt: skip
