"""Makes recordings for tests, the way the recorders of different ROS 2 distributions and other tools make them."""

import shutil
import sqlite3
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from mcap_ros2.writer import Writer as McapRos2Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from re2pix_node.recordings.reader import BagFrame, open_recording

TYPES = get_typestore(Stores.ROS2_JAZZY)
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CAMERA = "/camera/image_raw"
COUNT = 12
SQLITE3, MCAP = StoragePlugin.SQLITE3, StoragePlugin.MCAP

Messages = list[tuple[str, int, Any]]  # topic, log time in nanoseconds, message


def message(kind: str, **fields: Any) -> Any:
    return TYPES.types[kind](**fields)


def header(number: int) -> Any:
    stamp = message("builtin_interfaces/msg/Time", sec=1_700_000_000 + number, nanosec=250_000_000)
    return message("std_msgs/msg/Header", stamp=stamp, frame_id=f"camera_{number}")


def image(number: int, width: int = 32, height: int = 24) -> Any:
    """An image of noise, different at each call."""
    pixels = np.random.default_rng(number).integers(0, 256, height * width * 3, np.uint8)
    return message(
        IMAGE,
        header=header(number),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=width * 3,
        data=pixels,
    )


def compressed_image(number: int) -> Any:
    return message(COMPRESSED, header=header(number), format="jpeg", data=np.full(100 + number, number, np.uint8))


def images(count: int, width: int = 32) -> Messages:
    return [(CAMERA, received(number), image(number, width)) for number in range(count)]


def received(number: int) -> int:
    return 1_700_000_000_300_000_000 + number * 1_000_000_000


def serialized(item: Any) -> bytes:
    return bytes(TYPES.serialize_cdr(item, item.__msgtype__))


def write_rosbag2(
    folder: Path,
    messages: Messages,
    storage: StoragePlugin = StoragePlugin.MCAP,
    version: int = 9,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """What `ros2 bag record` makes."""
    writer = Writer(folder, version=version, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, log_time, item in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, item.__msgtype__, typestore=TYPES)
            writer.write(connections[topic], log_time, serialized(item))
    return folder


def storage_file(folder: Path) -> Path:
    """The only file in the folder beside metadata.yaml."""
    (file,) = (file for file in folder.iterdir() if file.name != "metadata.yaml")
    return file


def write_split_rosbag2(folder: Path, messages: Messages, parts: int, storage: StoragePlugin) -> Path:
    """Write a bag as `ros2 bag record --max-bag-size` does: several files and one metadata.yaml."""
    folder.mkdir()
    names = []
    whole = write_rosbag2(folder.with_name("whole"), messages, storage)
    metadata = yaml.safe_load((whole / "metadata.yaml").read_text())
    for number, share in enumerate(np.array_split(np.arange(len(messages)), parts)):
        part = write_rosbag2(folder.with_name(f"part_{number}"), [messages[index] for index in share], storage)
        file = storage_file(part)
        names.append(f"{folder.name}_{number}{file.suffix}")
        file.rename(folder / names[-1])
        shutil.rmtree(part)
    metadata["rosbag2_bagfile_information"]["relative_file_paths"] = names
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    shutil.rmtree(whole)
    return folder


def write_old_sqlite(file: Path, messages: Messages) -> Path:
    """The database that ROS 2 Foxy wrote: no message definitions, no schema version."""
    topics = list(dict.fromkeys((topic, item.__msgtype__) for topic, _, item in messages))
    database = sqlite3.connect(file)
    database.executescript(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
        "serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, "
        "data BLOB NOT NULL);"
        "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
    )
    for number, (topic, kind) in enumerate(topics, 1):
        database.execute("INSERT INTO topics VALUES (?, ?, ?, 'cdr', '')", (number, topic, kind))
    for topic, log_time, item in messages:
        number = topics.index((topic, item.__msgtype__)) + 1
        row = (number, log_time, serialized(item))
        database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
        database.commit()
    database.close()
    return file


def write_mcap(
    file: Path, messages: Messages, compression: CompressionType = CompressionType.ZSTD, chunk_size: int = 10_000
) -> Path:
    """Written and serialized by Foxglove's libraries, not by rosbags."""
    with file.open("wb") as stream:
        writer = McapRos2Writer(stream, chunk_size=chunk_size, compression=compression)
        schemas: dict[str, Any] = {}
        for topic, log_time, item in messages:
            kind = item.__msgtype__
            if kind not in schemas:
                schemas[kind] = writer.register_msgdef(kind, TYPES.generate_msgdef(kind, ros_version=2)[0])
            plain = SimpleNamespace(**{**vars(item), "data": item.data.tobytes()})
            writer.write_message(topic, schemas[kind], plain, log_time)
        writer.finish()
    return file


def write_bare_mcap(file: Path, payloads: list[bytes], definition: bytes = b"", **options: Any) -> Path:
    """One image topic with any payloads and any of McapWriter's options."""
    with file.open("wb") as stream:
        writer = McapWriter(stream, **options)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema(IMAGE, "ros2msg", definition)
        channel = writer.register_channel(CAMERA, "cdr", schema)
        for number, payload in enumerate(payloads):
            writer.add_message(channel, received(number), payload, received(number))
        writer.finish()
    return file


UNINDEXED = {"index_types": IndexType.NONE, "repeat_channels": False, "repeat_schemas": False, "use_statistics": False}


def read(path: Path, topic: str | None = None) -> tuple[list[BagFrame], str | None]:
    with open_recording(path) as recording:
        frames = list(recording.frames(recording.camera(topic)))
        return frames, recording.problem


def numbers(frames: list[BagFrame]) -> list[int]:
    """Which of images() the frames are; every byte and time is compared."""
    found = []
    for frame in frames:
        number = int(frame.frame_id.removeprefix("camera_"))
        assert frame.stamp == (1_700_000_000 + number) * 10**9 + 250_000_000
        assert frame.received == received(number)
        assert serialized(frame.message) == serialized(image(number, frame.message.width))
        found.append(number)
    return found


def chunks(content: bytes) -> list[tuple[int, int, int]]:
    """Start, end and number of messages of each chunk, told by the chunk's index records."""
    found = []
    at = 8
    while content[at] != 0x0F:  # the end of the data
        (length,) = struct.unpack_from("<Q", content, at + 1)
        if content[at] == 0x06:
            found.append((at, at + 9 + length, 0))
        if content[at] == 0x07:
            entries = struct.unpack_from("<I", content, at + 9 + 2)[0] // 16
            found[-1] = (*found[-1][:2], found[-1][2] + entries)
        at += 9 + length
    return found


def two_cameras() -> Messages:
    raw = images(COUNT)
    small = [("/rear/compressed", received(number) + 1, compressed_image(number)) for number in range(COUNT)]
    return [item for pair in zip(raw, small, strict=True) for item in pair]
