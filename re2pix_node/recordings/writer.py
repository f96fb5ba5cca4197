"""Writes rosbag2 recordings (MCAP) that any ROS 2 player can read, without ROS."""

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from re2pix_node.common.atomic_write import write_beside
from re2pix_node.common.shipped import shipped
from re2pix_node.errors import BagError

_FOREVER = QosTime(9223372036, 854775807)
# The node's QoS. A player offers this QoS, and subscribers that request more than it offers get nothing.
_QOS = Qos(
    history=QosHistory.KEEP_LAST,
    depth=10,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.VOLATILE,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)


class BagWriter:
    """A context manager: when the block ends without an error the recording is at `path`; otherwise nothing is left."""

    def __init__(self, path: Path, replace: bool = False) -> None:
        self._path = path
        self._replace = replace
        self._resources = ExitStack()
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> "BagWriter":
        self._writer = self._resources.enter_context(_writer_beside(self._path, self._replace))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.__exit__(kind, error, trace)

    def write(self, topic: str, message: Any, stamp: int) -> None:
        """Append a message of a class in message_types(), as if it had been received at `stamp` (nanoseconds)."""
        if stamp < 0:
            raise BagError(f"{self._path}: cannot hold a message of {stamp} ns before 1970: correct the camera's clock")
        with _disk_errors(self._path):
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic, message.__msgtype__, typestore=message_types(), offered_qos_profiles=[_QOS]
                )
            connection = self._connections[topic]
            self._writer.write(connection, stamp, message_types().serialize_cdr(message, connection.msgtype))


@functools.cache
def message_types() -> Typestore:
    """The messages of ROS 2 Jazzy and of re2pix_msgs: their classes in `types`, and their serialization."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for file in sorted(_definitions().glob("*.msg")):
        store.register(get_types_from_msg(file.read_text(), f"re2pix_msgs/msg/{file.stem}"))
    return store


def _definitions() -> Path:
    prefixes = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    sourced = (Path(prefix) / "share/re2pix_msgs/msg" for prefix in prefixes)
    for folder in filter(None, [*sourced, shipped("ros2_ws/src/re2pix_msgs/msg")]):
        if (folder / "Forecast.msg").is_file():
            return folder
    raise BagError("re2pix_msgs/msg/Forecast.msg: is in no folder of AMENT_PREFIX_PATH: source install/setup.bash")


@contextmanager
def _writer_beside(path: Path, replace: bool) -> Iterator[Writer]:
    # Replacing deletes the old folder, and a typing error must not delete a folder that is not a recording.
    if replace and path.exists() and not (path / "metadata.yaml").is_file():
        raise BagError(f"{path}: exists and is not a recording (it has no metadata.yaml): choose another name")
    with write_beside(path, replace, BagError) as partial:
        # The writer names the file after its folder, so the folder has its final name from the start.
        folder = partial / path.name
        # Players of ROS 2 Humble and Iron do not read the metadata of version 9.
        writer = Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP)
        # Segmentations shrink to a few percent, and every player reads chunks compressed with zstd.
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with _disk_errors(path):
            writer.open()
        try:
            yield writer
            with _disk_errors(path):
                writer.close()
                for file in folder.iterdir():
                    file.rename(partial / file.name)
                folder.rmdir()
        finally:
            # Closes the file if the lines above did not; a full disk raises the same error here.
            with suppress(OSError):
                writer.abort()


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BagError(f"{path}: cannot be written ({error.strerror}): check the disk and its permissions") from error
