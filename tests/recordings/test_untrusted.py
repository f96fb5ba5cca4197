"""Malicious recordings: nothing in them is executed or trusted, or gets more memory than it needs."""

import struct
import tracemalloc
from pathlib import Path

import lz4.frame
import pytest
import yaml
from mcap.writer import CompressionType

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
        assert len(frames) == (len(images) if where == "summary" else 2)
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
