"""Hostile recordings: damaged MCAP and SQLite files, records of any length, bombs, and metadata."""

import functools
import itertools
import os
import shutil
import sqlite3
import struct
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import zstandard
from rosbags.rosbag2 import StoragePlugin

from re2pix_node.recordings.reader import open_recording
from tests.hostile.mutate import EDGES, damaged
from tests.support import bag_files

FRAMES_MAX = 2000
SCRIPTS = (
    "DROP TABLE topics; CREATE VIEW topics AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) "
    "SELECT id, '/c' || id name, 'sensor_msgs/msg/Image' type FROM n",
    "UPDATE topics SET name = x'00ff'",
    "UPDATE topics SET name = char(27) || '[2J' || char(10)",
    "UPDATE messages SET data = zeroblob(5000000)",
    "UPDATE messages SET timestamp = -9223372036854775808",
    "UPDATE messages SET timestamp = 'then', data = 5",
    "INSERT INTO topics SELECT id + 1000, name || id, type, 'cdr', '', '' FROM topics",
)


@functools.cache
def whole() -> dict[str, Path]:
    """A recording of each storage."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-bags-"))
    plugins = {"mcap": StoragePlugin.MCAP, "db3": StoragePlugin.SQLITE3}
    bags = {
        name: bag_files.write_rosbag2(folder / name, bag_files.images(12), storage=plugin)
        for name, plugin in plugins.items()
    }
    return {**bags, "chunks": bag_files.write_mcap(folder / "chunks.mcap", bag_files.images(12), chunk_size=4000)}


def forget() -> None:
    shutil.rmtree(whole()["chunks"].parent)
    whole.cache_clear()


def make(rng: np.random.Generator, folder: Path) -> Path:
    way = int(rng.integers(6))
    if way == 0:
        return _with_metadata(rng, folder)
    if way == 1:
        return _with_script(rng, folder)
    source = whole()[str(rng.choice(["mcap", "db3", "chunks"]))]
    file = bag_files.storage_file(source) if source.is_dir() else source
    data = file.read_bytes()
    target = folder / f"a{file.suffix}"
    if way == 2:
        data = _with_record(rng, whole()["chunks"].read_bytes())
        target = folder / "a.mcap"
    elif way == 3:
        data = zstandard.compress(damaged(rng, data))
        target = folder / f"a{file.suffix}.zstd"
    else:
        data = damaged(rng, data)
    target.write_bytes(data)
    return target


def read(path: Path) -> None:
    os.environ["RE2PIX_MAX_CHUNK_RECORDS"] = "20000"
    with open_recording(path) as recording:
        for camera in recording.cameras[:5]:
            for _ in itertools.islice(recording.frames(camera), FRAMES_MAX):
                pass


def _with_metadata(rng: np.random.Generator, folder: Path) -> Path:
    path = Path(shutil.copytree(whole()[str(rng.choice(["mcap", "db3"]))], folder / "bag"))
    file = path / "metadata.yaml"
    text = file.read_bytes()
    bomb = b"a0: &a0 {x: 1}\n" + b"".join(
        b"a%d: &a%d {<<: [*a%d, *a%d]}\n" % (i, i, i - 1, i - 1) for i in range(1, 30)
    )
    file.write_bytes([damaged(rng, text), bomb, text * 300, b"[" * 5000][rng.integers(4)])
    return path


def _with_script(rng: np.random.Generator, folder: Path) -> Path:
    path = Path(shutil.copytree(whole()["db3"], folder / "bag"))
    with closing(sqlite3.connect(bag_files.storage_file(path))) as database:
        database.executescript(str(rng.choice(SCRIPTS)))
    return path


def _with_record(rng: np.random.Generator, data: bytes) -> bytes:
    """An MCAP file with a record of any kind and any length in front of the others, or a chunk of many records."""
    magic, rest = data[:8], data[8:]
    opcode, length = int(rng.integers(0, 20)), int(EDGES[rng.integers(len(EDGES))])
    if rng.integers(2):
        return magic + struct.pack("<BQ", opcode, length) + rng.bytes(int(rng.integers(200))) + rest
    record = struct.pack("<BQ", opcode or 5, 22) + rng.bytes(22)
    inner = record * int(rng.integers(1, 100_000))
    packed = zstandard.compress(inner)
    size = [len(inner), length % 2**63][rng.integers(2)]
    chunk = struct.pack("<QQQII", 0, 0, size, 0, 4) + b"zstd" + struct.pack("<Q", len(packed)) + packed
    return magic + struct.pack("<BQ", 6, len(chunk)) + chunk + rest
