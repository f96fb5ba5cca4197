"""Reads camera frames from rosbag2 recordings without ROS: folders, single files, and the remains of a crash."""

import functools
import itertools
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import zstandard
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.common.files import read_text
from re2pix_node.common.limits import METADATA_BYTES
from re2pix_node.common.plain_yaml import load_plain_yaml
from re2pix_node.common.wording import printable
from re2pix_node.errors import BagError, BundleError
from re2pix_node.recordings.mcap_file import MCAP_MAGIC, McapFile
from re2pix_node.recordings.sqlite_file import SQLITE_MAGIC, SqliteFile
from re2pix_node.recordings.storage import ZSTD_MAGIC, Topic, first_bytes, unpack_file, unpack_zstd

StorageFile = McapFile | SqliteFile

_ROS_1_MAGIC = b"#ROSBAG V"
_PACKAGE = "sensor_msgs/msg/"
_CAMERA_TYPES = (f"{_PACKAGE}Image", f"{_PACKAGE}CompressedImage")
_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")


@dataclass(frozen=True)
class CameraTopic:
    """A topic with pictures: `type` is Image or CompressedImage; `count` is None if a damaged file has no count."""

    name: str
    type: str
    count: int | None


@dataclass(frozen=True)
class BagFrame:
    """One camera message. Times are in nanoseconds: `stamp` is the camera's (header), `received` the recorder's."""

    stamp: int
    received: int
    frame_id: str
    message: Any


class Recording:
    """The camera topics of a recording, and their frames. A context manager, because it may hold unpacked files."""

    def __init__(
        self,
        path: Path,
        files: list[StorageFile],
        topics: Mapping[Topic, int | None],
        resources: ExitStack,
        unreadable: list[str],
    ) -> None:
        self.path = path
        self.cameras = [
            CameraTopic(topic.name, topic.type.removeprefix(_PACKAGE), count)
            for topic, count in topics.items()
            if topic.type in _CAMERA_TYPES
        ]
        self.problem: str | None = None
        self._files = files
        self._topics = topics
        self._resources = resources
        self._unreadable = unreadable

    def __enter__(self) -> "Recording":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def camera(self, topic: str | None = None) -> CameraTopic:
        """The camera topic of that name, or the only one."""
        if not self.cameras:
            others = _listed([f"{name} ({kind})" for name, kind in self._topics]) or "nothing"
            raise BagError(
                f"{self.path}: holds no topic of type {' or '.join(_CAMERA_TYPES)}: record one; it holds {others}"
            )
        choice = f"choose one with --topic: {_listed([camera.name for camera in self.cameras])}"
        if topic is None and len(self.cameras) > 1:
            raise BagError(f"{self.path}: holds several camera topics: {choice}")
        for camera in self.cameras:
            if topic in (None, camera.name):
                return camera
        raise BagError(f"{self.path}: holds no camera topic {topic}: {choice}")

    def frames(self, topic: CameraTopic) -> Iterator[BagFrame]:
        """The topic's frames in recorded order; after that `problem` says whether some are missing."""
        self.problem = None
        read = undecodable = 0
        damages = list(self._unreadable)
        for file in self._files:
            for received, payload in file.messages(Topic(topic.name, _PACKAGE + topic.type)):
                frame = _frame(topic, received, payload)
                if frame is None:
                    undecodable += 1
                else:
                    read += 1
                    yield frame
            if file.damage:
                damages.append(f"{file.name} {file.damage}")
        if undecodable:
            damages.append(f"{self.path} has messages that cannot be decoded ({undecodable})")
        self.problem = self._what_is_missing(topic, read, damages)

    def _what_is_missing(self, topic: CameraTopic, read: int, damages: list[str]) -> str | None:
        fewer = topic.count is not None and read < topic.count
        # Damage that affects only other topics does not matter here.
        if not fewer and (not damages or read == topic.count):
            return None
        cause = "; ".join(damages) or f"{self.path} is damaged"
        known = f" of {topic.count}" if fewer else ""
        return f"{cause}: {read}{known} frame{'' if read == 1 and not known else 's'} read, the rest is lost"


def _listed(names: list[str], most: int = 20) -> str:
    """The names, on one line, however many there are and whatever is in them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more


def open_recording(path: Path) -> Recording:
    """Open a rosbag2 folder, with or without its metadata.yaml, or a single .mcap or .db3 file."""
    try:
        file_paths, counts = _files_and_counts(path) if path.is_dir() else ([path], {})
    except OSError as error:
        raise BagError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error
    if not file_paths:
        raise BagError(f"{path}: holds no .mcap or .db3 file: give a folder that ros2 bag recorded, or a file of one")
    resources = ExitStack()
    try:
        opened = {file_path.name: _open_file(file_path, resources) for file_path in file_paths}
        files = [file for file in opened.values() if not isinstance(file, BagError)]
        errors = {name: error for name, error in opened.items() if isinstance(error, BagError)}
        if not files:
            raise next(iter(errors.values()))
        topics = _topics(path, files, counts, whole=not errors)
    except BaseException:
        resources.close()
        raise
    return Recording(path, files, topics, resources, unreadable=[f"{name} cannot be read" for name in errors])


def _files_and_counts(folder: Path) -> tuple[list[Path], dict[Topic, int]]:
    """The files of a rosbag2 folder in order, and the numbers of messages in its metadata."""
    names, counts = _metadata(folder)
    present = {file.name for file in folder.iterdir() if file.name.endswith(_SUFFIXES)}
    # A killed recorder leaves no metadata, and users rename files without changing the metadata.
    if present.isdisjoint(names):
        # A recorder that was killed while it compressed leaves both files; the compressed one is incomplete.
        names = sorted((name for name in present if name.removesuffix(".zstd") not in present - {name}), key=_by_number)
        if len({re.sub(r"(_\d+)?(\.\w+)+$", "", name) for name in names}) > 1:
            raise BagError(f"{folder}: holds several recordings and no metadata.yaml: give one of {', '.join(names)}")
    return [folder / name for name in names], counts


def _metadata(folder: Path) -> tuple[list[str], dict[Topic, int]]:
    try:
        file = folder / "metadata.yaml"
        content: Any = load_plain_yaml(read_text(file, METADATA_BYTES), str(file))
        information = content["rosbag2_bagfile_information"]
        # Old recorders wrote the folder before the file name; files outside the folder are not part of the bag.
        names = [PurePath(name).name for name in information["relative_file_paths"]]
        counts: Counter[Topic] = Counter()
        for entry in information["topics_with_message_count"]:
            topic = entry["topic_metadata"]
            counts[Topic(str(topic["name"]), str(topic["type"]))] += int(entry["message_count"])
        return names, counts
    except (OSError, ValueError, OverflowError, BundleError, LookupError, TypeError):  # the files themselves tell more
        return [], {}


def _by_number(name: str) -> list[int | str]:
    """A sort key that puts drive_10 after drive_9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _open_file(path: Path, resources: ExitStack) -> StorageFile | BagError:
    try:
        start = first_bytes(path)
    except BagError as error:
        return error
    plain = path
    if start.startswith(ZSTD_MAGIC):
        plain = Path(resources.enter_context(TemporaryDirectory(prefix="re2pix-"))) / path.stem
        unpack_file(path, plain)
    try:
        return _open_storage(plain, path)
    except BagError as error:
        return error


def _open_storage(path: Path, original: Path) -> StorageFile:
    """Open the file at `path`; its first bytes give the format. `original` is the user's file, if it was unpacked."""
    start = first_bytes(path)
    if start.startswith(MCAP_MAGIC):
        return McapFile(path, original.name)
    if start.startswith(SQLITE_MAGIC):
        return SqliteFile(path, original.name)
    if not start:
        raise BagError(f"{original}: is empty: copy or record it again")
    if start.startswith(_ROS_1_MAGIC):
        raise BagError(f"{original}: is a ROS 1 bag: convert it, for example with rosbags-convert")
    raise BagError(f"{original}: is neither MCAP nor SQLite: give a folder that ros2 bag recorded, or a file of one")


def _topics(path: Path, files: list[StorageFile], counts: Mapping[Topic, int], whole: bool) -> dict[Topic, int | None]:
    found: Counter[Topic] = Counter()
    for file in files:
        found.update(file.topics())
    damages = [file.damage for file in files if file.damage]
    if damages and not found:
        raise BagError(f"{path}: {damages[0]}, and nothing in it can be read: copy or record it again")
    return {topic: counts.get(topic, None if damages or not whole else count) for topic, count in found.items()}


def _frame(topic: CameraTopic, received: int, payload: bytes) -> BagFrame | None:
    try:
        # Recorders can compress each message; a serialized message never starts like that.
        data = unpack_zstd(payload) if payload.startswith(ZSTD_MAGIC) else payload
        message: Any = _message_types().deserialize_cdr(memoryview(data), _PACKAGE + topic.type)
    except (SerdeError, zstandard.ZstdError):
        return None
    stamp = message.header.stamp
    return BagFrame(stamp.sec * 1_000_000_000 + stamp.nanosec, received, message.header.frame_id, message)


@functools.cache
def _message_types() -> Typestore:
    # Camera messages are the same in every ROS 2 distribution. The definitions in newer bags are not used:
    # old bags have none, and rosbags would turn them into code and run it.
    return get_typestore(Stores.ROS2_JAZZY)


def frame_rate(recording: Recording, camera: CameraTopic, look_at: int = 50) -> float:
    """Frames a second of a camera, from the median step between its first stamps."""
    stamps = [frame.stamp for frame in itertools.islice(recording.frames(camera), look_at)]
    forward = [later - earlier for earlier, later in itertools.pairwise(stamps) if later > earlier]
    if not forward:
        raise BagError(f"{camera.name}: its stamps do not move on, so a video has no frame rate: leave --video out")
    return min(NANOSECONDS / statistics.median(forward), 240.0)
