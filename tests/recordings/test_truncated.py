"""Truncated recordings: the undamaged part is read, and the loss is reported."""

import shutil
import sqlite3
import struct

import pytest
import zstandard
from mcap.writer import CompressionType

from re2pix_node.errors import BagError
from re2pix_node.recordings.reader import open_recording
from tests.support import bag_files
from tests.support.bag_files import (
    CAMERA,
    COUNT,
    SQLITE3,
    chunks,
    numbers,
    read,
    two_cameras,
)


class TestTruncatedMcap:
    @pytest.mark.parametrize("compression", list(CompressionType))
    def test_every_whole_chunk_comes_out(self, tmp_path, compression):
        file = bag_files.write_mcap(tmp_path / "drive.mcap", bag_files.images(COUNT), compression, chunk_size=4000)
        content = file.read_bytes()
        ends = [end for _, end, _ in chunks(content)]
        assert len(ends) == COUNT // 2
        data_end = content.rindex(b"\x0f" + struct.pack("<Q", 4))
        cuts = {*range(0, len(content), 331), *range(8), len(content) - 1}
        cuts |= {end + near for end in [*ends, data_end] for near in (-1, 0, 1, 9)}
        for cut in sorted(cuts):
            file.write_bytes(content[:cut])
            whole = sum(count for _, end, count in chunks(content) if end <= cut)
            if whole == 0:
                with pytest.raises(BagError, match=r"neither MCAP nor SQLite|is truncated, and nothing|is empty"):
                    read(file)
                continue
            frames, problem = read(file)
            assert numbers(frames) == list(range(whole)), cut
            if cut < data_end:
                assert problem == f"drive.mcap is truncated: {whole} frames read, the rest is lost", cut
            elif cut >= data_end + 13:
                assert problem is None, cut

    def test_without_chunks(self, tmp_path):
        payloads = [bag_files.serialized(bag_files.image(number)) for number in range(COUNT)]
        file = bag_files.write_bare_mcap(tmp_path / "a.mcap", payloads, use_chunking=False)
        content = file.read_bytes()
        starts = [content.index(payload) for payload in payloads]
        for number, start in enumerate(starts):
            for cut in (start - 1, start, start + 1000, start + len(payloads[number]) - 1):
                file.write_bytes(content[:cut])
                with open_recording(file) as recording:
                    assert numbers(list(recording.frames(recording.camera()))) == list(range(number))
                    assert recording.problem.startswith("a.mcap is truncated: ")

    def test_zeros_at_the_end(self, tmp_path):
        file = bag_files.write_mcap(tmp_path / "drive.mcap", bag_files.images(COUNT), chunk_size=4000)
        content = file.read_bytes()
        file.write_bytes(content[: chunks(content)[3][1]] + bytes(1_000_000))
        frames, problem = read(file)
        assert numbers(frames) == list(range(8))
        assert problem == "drive.mcap is damaged: 8 frames read, the rest is lost"

    def test_one_frame_is_said_in_the_singular(self, tmp_path):
        payloads = [bag_files.serialized(bag_files.image(number)) for number in range(2)]
        file = bag_files.write_bare_mcap(tmp_path / "a.mcap", payloads, use_chunking=False)
        file.write_bytes(file.read_bytes()[: -len(payloads[1])])
        assert read(file)[1] == "a.mcap is truncated: 1 frame read, the rest is lost"

    def test_metadata_tells_how_many_are_missing(self, tmp_path):
        folder = bag_files.write_rosbag2(tmp_path / "drive", two_cameras())
        shutil.copy(bag_files.write_mcap(tmp_path / "b.mcap", two_cameras(), chunk_size=4000), folder / "drive.mcap")
        content = (folder / "drive.mcap").read_bytes()
        (folder / "drive.mcap").write_bytes(content[: len(content) // 2])
        with open_recording(folder) as recording:
            camera = recording.camera(CAMERA)
            assert camera.count == COUNT
            count = len(list(recording.frames(camera)))
        assert 3 < count < COUNT
        assert recording.problem == f"drive.mcap is truncated: {count} of {COUNT} frames read, the rest is lost"

    @pytest.mark.parametrize(("end", "damage"), [(b"", "truncated"), (b"\xff" * 300_000, "damaged")])
    def test_file_compressed_as_a_whole(self, tmp_path, end, damage):
        plain = bag_files.write_mcap(tmp_path / "a.mcap", bag_files.images(60, 640), CompressionType.NONE).read_bytes()
        file = tmp_path / "drive.mcap.zstd"
        content = zstandard.compress(plain)
        file.write_bytes(content[: len(content) * 2 // 3] + end)
        frames, problem = read(file)
        assert numbers(frames) == list(range(len(frames)))
        assert 30 < len(frames) < 41
        assert problem == f"drive.mcap.zstd is {damage}: {len(frames)} frames read, the rest is lost"


class TestTruncatedSqlite:
    @pytest.mark.parametrize("width", [32, 200])  # rows that fit into a page, and rows of several pages
    def test_whole_rows_come_out(self, tmp_path, width):
        file = bag_files.storage_file(bag_files.write_rosbag2(tmp_path / "a", bag_files.images(60, width), SQLITE3))
        content = file.read_bytes()
        file = tmp_path / "drive.db3"
        counts = []
        # 4096 is the size of a page: files end between pages and within them.
        for cut in sorted(
            {*range(17, len(content), len(content) // 150), *range(4096, len(content), 5 * 4096), len(content) - 1}
        ):
            file.write_bytes(content[:cut])
            if cut < 4 * 4096:  # the pages that say which tables and topics there are
                with pytest.raises(BagError, match="is truncated, and nothing in it can be read"):
                    read(file)
                continue
            frames, problem = read(file)
            assert numbers(frames) == list(range(len(frames))), cut
            assert len(frames) >= 60 * cut / len(content) - 8, cut
            if len(frames) < 60:
                expected = f"{len(frames)} frame{'' if len(frames) == 1 else 's'} read, the rest is lost"
                assert problem == f"drive.db3 is truncated: {expected}"
            counts.append(len(frames))
        assert counts == sorted(counts)

    def test_metadata_tells_how_many_are_missing(self, tmp_path):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(60), SQLITE3)
        file = bag_files.storage_file(folder)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        frames, problem = read(folder)
        assert 20 < len(frames) < 60
        assert problem == f"drive.db3 is truncated: {len(frames)} of 60 frames read, the rest is lost"

    def test_the_largest_pages(self, tmp_path):
        file = bag_files.write_old_sqlite(tmp_path / "drive.db3", bag_files.images(60, 200))
        database = sqlite3.connect(file)
        database.execute("PRAGMA page_size = 65536")
        database.execute("VACUUM")
        database.close()
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        frames, problem = read(file)
        assert numbers(frames) == list(range(len(frames)))
        assert 10 < len(frames) < 60
        assert problem.startswith("drive.db3 is truncated: ")
