"""Malicious recordings: nothing in them is executed or trusted, or gets more memory than it needs."""

import os
import sqlite3
import struct
import tracemalloc
from contextlib import closing
from pathlib import Path

import lz4.frame
import pytest
import yaml
import zstandard
from mcap.writer import CompressionType
from rosbags.rosbag2 import StoragePlugin

from re2pix_node.errors import BagError
from re2pix_node.recordings.reader import open_recording
from tests.support import bag_files
from tests.support.bag_files import (
    CAMERA,
    COUNT,
    chunks,
    numbers,
    read,
    received,
)

ROOT = Path(__file__).resolve().parents[2]


class TestNothingInABagIsTrusted:
    def test_metadata_makes_no_objects(self, tmp_path):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(1))
        trap = tmp_path / "trap"
        (folder / "metadata.yaml").write_text(f"!!python/object/apply:os.mkdir ['{trap}']\n")
        assert numbers(read(folder)[0]) == [0]
        assert not trap.exists()

    def test_metadata_names_no_file_elsewhere(self, tmp_path):
        elsewhere = bag_files.storage_file(bag_files.write_rosbag2(tmp_path / "other", bag_files.images(2)))
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(1))
        metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
        metadata["rosbag2_bagfile_information"]["relative_file_paths"] = [
            "drive.mcap",
            str(elsewhere),
            "../other/other.mcap",
        ]
        (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
        assert numbers(read(folder)[0]) == [0]

    @pytest.mark.parametrize("text", ["", "[" * 5000, "rosbag2_bagfile_information: 3", "a: *b", "\0"])
    def test_metadata_that_makes_no_sense(self, tmp_path, text):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(2))
        (folder / "metadata.yaml").write_text(text)
        assert numbers(read(folder)[0]) == [0, 1]

    def test_message_definitions_are_not_used(self, tmp_path):
        payload = bag_files.serialized(bag_files.image(0))
        frames, problem = read(bag_files.write_bare_mcap(tmp_path / "a.mcap", [payload], definition=b"\xff) import os"))
        assert numbers(frames) == [0]
        assert problem is None

    @pytest.mark.parametrize("compression", [CompressionType.LZ4, CompressionType.ZSTD])
    def test_a_chunk_that_unpacks_to_more_than_it_says(self, tmp_path, compression):
        payloads = [bag_files.serialized(bag_files.image(number)) for number in range(COUNT)]
        file = bag_files.write_bare_mcap(tmp_path / "a.mcap", payloads, compression=compression)
        content = bytearray(file.read_bytes())
        (start, _, _) = chunks(bytes(content))[0]
        (size,) = struct.unpack_from("<Q", content, start + 9 + 16)
        one_message_less = size - (9 + 22 + len(payloads[-1]))
        struct.pack_into("<QI", content, start + 9 + 16, one_message_less, 0)  # and no checksum
        file.write_bytes(content)
        assert read(file) == ([], f"a.mcap is damaged: 0 of {COUNT} frames read, the rest is lost")

    @pytest.mark.parametrize("where", ["chunk", "data of chunk", "summary"])
    def test_a_length_that_cannot_be_claims_no_memory(self, tmp_path, where):
        file = bag_files.write_mcap(tmp_path / "a.mcap", images := bag_files.images(COUNT), chunk_size=4000)
        content = bytearray(file.read_bytes())
        start = chunks(bytes(content))[1][0]
        summary = struct.unpack_from("<Q", content, len(content) - 8 - 20)[0]
        position = {"chunk": start + 1, "data of chunk": start + 9 + 32 + len("zstd"), "summary": summary + 1}[where]
        struct.pack_into("<Q", content, position, 3 << 30)
        file.write_bytes(content)
        tracemalloc.start()
        frames, problem = read(file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000_000
        assert len(frames) == {"summary": len(images), "data of chunk": len(images) - 2, "chunk": 2}[where]
        assert (problem is None) == (where == "summary")

    @pytest.mark.parametrize("where", ["zstd", "lz4", "message"])
    def test_a_few_bytes_that_unpack_to_all_memory(self, tmp_path, where):
        size = 2 << 30
        blocks = [struct.pack("<I", (1 << 17) << 3 | 1 << 1)[:3] + b"\0"] * (size >> 17)  # each a byte, 131072 times
        bomb = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"".join(blocks) + b"\1\0\0"
        if where == "lz4":
            with lz4.frame.LZ4FrameCompressor() as lz4_compressor:
                zeros = bytes(size >> 5)
                pieces = [lz4_compressor.begin(), *(lz4_compressor.compress(zeros) for _ in range(1 << 5))]
                bomb = b"".join([*pieces, lz4_compressor.flush()])
        payloads = [bag_files.serialized(bag_files.image(number)) for number in range(2)]
        if where == "message":
            file = bag_files.write_bare_mcap(tmp_path / "a.mcap", [*payloads, bomb])
        else:
            file = bag_files.write_bare_mcap(tmp_path / "a.mcap", payloads, use_chunking=False)
            content = file.read_bytes()
            data_end = content.rindex(b"\x0f" + struct.pack("<Q", 4))
            name = where.encode()
            chunk = struct.pack("<QQQII", 0, 0, size, 0, len(name)) + name + struct.pack("<Q", len(bomb)) + bomb
            file.write_bytes(content[:data_end] + b"\x06" + struct.pack("<Q", len(chunk)) + chunk + content[data_end:])
        tracemalloc.start()
        with open_recording(file) as recording:
            assert numbers(list(recording.frames(recording.camera()))) == [0, 1]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50_000_000

    def test_a_record_that_is_larger_than_any_can_be(self, tmp_path):
        payloads = [bag_files.serialized(bag_files.image(number)) for number in range(2)]
        file = bag_files.write_bare_mcap(tmp_path / "a.mcap", payloads, use_chunking=False)
        content = bytearray(file.read_bytes())
        struct.pack_into("<Q", content, content.index(payloads[1]) - 22 - 8, 2 << 30)
        file.write_bytes(content)
        with file.open("r+b") as stream:
            stream.truncate(3 << 30)  # takes no room on the disk
        tracemalloc.start()
        frames, problem = read(file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000_000
        assert numbers(frames) == [0]
        assert problem == "a.mcap is damaged: 1 frame read, the rest is lost"

    @pytest.mark.parametrize("opcode", [5, 0x7F], ids=["messages", "unknown"])
    def test_a_chunk_of_countless_tiny_records(self, tmp_path, monkeypatch, opcode):
        monkeypatch.setenv("RE2PIX_MAX_CHUNK_RECORDS", "5000")
        record = struct.pack("<BQ", opcode, 22) + struct.pack("<HIQQ", 99, 0, 0, 0)
        file = with_chunk(tmp_path, zstandard.compress(record * 100_000), len(record) * 100_000)
        tracemalloc.start()
        frames, problem = read(file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000_000
        assert numbers(frames) == [0, 1]
        limit = "the limit is 5000 records: set RE2PIX_MAX_CHUNK_RECORDS to raise it"
        assert problem is None or f"a.mcap has a chunk of too many records, {limit}" in problem

    def test_an_index_of_countless_entries_costs_no_memory(self, tmp_path):
        index = struct.pack("<HI", 1, 16 * 3_000_000) + bytes(16 * 3_000_000)
        file = with_record(tmp_path, 7, index)
        tracemalloc.start()
        assert numbers(read(file)[0]) == [0, 1]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000_000

    def test_too_many_topics(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RE2PIX_MAX_BAG_TOPICS", "3")
        channels = b""
        for number in range(100, 200):
            topic = f"/t{number}".encode()
            content = struct.pack("<HHI", number, 1, len(topic)) + topic + struct.pack("<I", 0) * 2
            channels += struct.pack("<BQ", 4, len(content)) + content
        file = with_chunk(tmp_path, zstandard.compress(channels), len(channels))
        frames, problem = read(file, CAMERA)
        assert numbers(frames) == [0, 1]
        assert problem is None or "has too many topics, the limit is 3 topics: set RE2PIX_MAX_BAG_TOPICS" in problem

    def test_metadata_with_merge_keys(self, tmp_path):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(2))
        bomb = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))
        (folder / "metadata.yaml").write_text(bomb)
        assert numbers(read(folder)[0]) == [0, 1]

    @pytest.mark.parametrize("name", ["drive.mcap", "drive.db3", "metadata.yaml"])
    @pytest.mark.parametrize("kind", ["pipe", "device"])
    def test_pipes_and_devices_are_not_read(self, tmp_path, name, kind):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(2))
        file = folder / name
        file.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(file)
        else:
            file.symlink_to("/dev/zero")
        if name == "metadata.yaml":
            assert numbers(read(folder)[0]) == [0, 1]
        else:
            with pytest.raises(BagError, match="not a regular file, but a pipe, a socket or a device"):
                open_recording(file)

    @pytest.mark.parametrize(
        "script",
        [
            "DROP TABLE topics; CREATE VIEW topics AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)"
            " SELECT id, '/camera/image_raw' name, 'sensor_msgs/msg/Image' type FROM n",
            "ALTER TABLE messages RENAME TO kept; CREATE VIEW messages AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL "
            "SELECT id + 1 FROM n) SELECT id, 1 topic_id, 5 timestamp, zeroblob(100) data FROM n",
            "ALTER TABLE messages RENAME TO kept; CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, "
            "timestamp INTEGER, data BLOB AS (zeroblob(900000000))); INSERT INTO messages VALUES (1, 1, 5)",
            "ALTER TABLE messages RENAME TO kept; CREATE VIRTUAL TABLE messages USING "
            "fts5(id, topic_id, timestamp, data)",
        ],
        ids=["endless topics", "endless messages", "computed data", "virtual table"],
    )
    def test_a_database_that_computes_is_refused(self, tmp_path, script):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(2), storage=StoragePlugin.SQLITE3)
        file = bag_files.storage_file(folder)
        with closing(sqlite3.connect(file)) as database:
            database.executescript(script)
        with pytest.raises(BagError, match="holds no recording"):
            read(file)

    def test_a_database_whose_pages_repeat_without_end(self, tmp_path):
        """An inner page whose children are the same leaf a thousand times, and twenty levels of that."""
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(400), storage=StoragePlugin.SQLITE3)
        file = bag_files.storage_file(folder)
        with closing(sqlite3.connect(file)) as database:
            (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
        data = bytearray(file.read_bytes())
        size = int.from_bytes(data[16:18], "big")
        page = memoryview(data)[(root - 1) * size : root * size]
        assert page[0] == 5  # an inner page
        first = int.from_bytes(page[12:14], "big")
        for cell in range(int.from_bytes(page[3:5], "big")):
            at = int.from_bytes(page[12 + 2 * cell : 14 + 2 * cell], "big")
            page[at : at + 4] = page[first : first + 4]
        file.write_bytes(data)
        frames, problem = read(file)
        assert len(frames) < 400
        assert "is damaged" in problem

    def test_a_topic_that_is_no_text_is_left_out(self, tmp_path):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(2), storage=StoragePlugin.SQLITE3)
        file = bag_files.storage_file(folder)
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("INSERT INTO topics SELECT 77, x'00ff', type, 'cdr', '', '' FROM topics")
        assert numbers(read(file)[0]) == [0, 1]

    def test_a_file_that_unpacks_without_end(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RE2PIX_MAX_UNPACKED_BYTES", str(50 << 20))
        file = tmp_path / "drive.mcap.zstd"
        file.write_bytes(zstandard.compress(bytes(200 << 20)))
        with pytest.raises(BagError, match="unpacks to too much, the limit is 50 MiB: set RE2PIX_MAX_UNPACKED_BYTES"):
            open_recording(file)

    def test_frames_come_one_by_one(self, tmp_path):
        big = bag_files.image(0, 640, 480)
        path = bag_files.write_rosbag2(tmp_path / "drive", [(CAMERA, received(n), big) for n in range(40)])
        size = big.data.nbytes
        with open_recording(path) as recording:
            tracemalloc.start()
            count = sum(1 for _ in recording.frames(recording.camera()))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert count == 40
        assert peak < 12 * size


def with_chunk(folder: Path, packed: bytes, size: int) -> Path:
    """A file of two frames, with another chunk after them."""
    return with_record(
        folder, 6, struct.pack("<QQQII", 0, 0, size, 0, 4) + b"zstd" + struct.pack("<Q", len(packed)) + packed
    )


def with_record(folder: Path, opcode: int, content: bytes) -> Path:
    """A file of two frames, with another record after them."""
    payloads = [bag_files.serialized(bag_files.image(number)) for number in range(2)]
    file = bag_files.write_bare_mcap(folder / "a.mcap", payloads, use_chunking=False)
    whole = file.read_bytes()
    data_end = whole.rindex(b"\x0f" + struct.pack("<Q", 4))
    file.write_bytes(whole[:data_end] + struct.pack("<BQ", opcode, len(content)) + content + whole[data_end:])
    return file
