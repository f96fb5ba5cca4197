"""Recordings with wrong bytes in them: frames or an error by name, never a traceback."""

import re
import signal
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType

from re2pix_node.errors import BagError
from re2pix_node.recordings.reader import open_recording
from tests.support import bag_files
from tests.support.bag_files import (
    CAMERA,
    COUNT,
    MCAP,
    SQLITE3,
    chunks,
    numbers,
    read,
    received,
    two_cameras,
)


class TestDamage:
    @pytest.mark.parametrize("index", [0, 2, 5])  # the first also says what the topics are
    def test_a_damaged_chunk_costs_only_itself(self, tmp_path, index):
        file = bag_files.write_mcap(tmp_path / "drive.mcap", bag_files.images(COUNT), chunk_size=4000)
        content = bytearray(file.read_bytes())
        start, end, _ = chunks(bytes(content))[index]
        content[(start + end) // 2] ^= 0xFF
        file.write_bytes(content)
        frames, problem = read(file)
        assert numbers(frames) == [number for number in range(COUNT) if number // 2 != index]
        assert problem == f"drive.mcap is damaged: {COUNT - 2} of {COUNT} frames read, the rest is lost"

    @pytest.mark.parametrize("chunked", [True, False])
    @pytest.mark.parametrize(
        "length", [0, 5, 20, 21, 22, 23, 2331, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -4]
    )
    def test_wrong_lengths(self, tmp_path, chunked, length):
        payloads = [bag_files.serialized(bag_files.image(number)) for number in range(COUNT)]
        options = {"compression": CompressionType.NONE, "enable_crcs": False, "use_chunking": chunked}
        file = bag_files.write_bare_mcap(tmp_path / "drive.mcap", payloads, **options)
        content = bytearray(file.read_bytes())
        record = content.index(payloads[COUNT - 2]) - 22 - 9
        if length < 0:  # up to so many bytes before the end of the messages
            length += content.index(payloads[-1]) + len(payloads[-1]) - record - 9
        struct.pack_into("<Q", content, record + 1, length)
        file.write_bytes(content)
        frames, problem = read(file)
        assert COUNT - 2 not in numbers(frames)
        assert f"{len(frames)} of {COUNT} frames read" in problem

    def test_damage_to_another_topic_is_no_problem(self, tmp_path):
        rear = [("/rear", received(number), bag_files.image(number)) for number in range(COUNT)]
        file = bag_files.write_mcap(tmp_path / "drive.mcap", [*bag_files.images(COUNT), *rear], chunk_size=4000)
        content = bytearray(file.read_bytes())
        start, end, _ = chunks(bytes(content))[-1]
        content[(start + end) // 2] ^= 0xFF
        file.write_bytes(content)
        with open_recording(file) as recording:
            assert len(list(recording.frames(recording.camera("/rear")))) < COUNT
            assert recording.problem is not None
            frames = recording.frames(recording.camera(CAMERA))
            next(frames)
            assert recording.problem is None
            assert len(list(frames)) == COUNT - 1
            assert recording.problem is None

    @pytest.mark.parametrize("garbage", [b"", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 90, b"\x28\xb5\x2f\xfd garbage"])
    def test_messages_that_cannot_be_decoded_are_left_out(self, tmp_path, garbage):
        payloads = [bag_files.serialized(bag_files.image(number)) for number in range(COUNT)]
        payloads[4] = payloads[5] = garbage
        frames, problem = read(bag_files.write_bare_mcap(tmp_path / "drive.mcap", payloads))
        assert numbers(frames) == [0, 1, 2, 3, *range(6, COUNT)]
        assert problem == (
            f"{tmp_path}/drive.mcap has messages that cannot be decoded (2): 10 of 12 frames read, the rest is lost"
        )

    def test_topic_names_that_are_no_text(self, tmp_path):
        file = bag_files.write_old_sqlite(tmp_path / "drive.db3", bag_files.images(COUNT))
        database = sqlite3.connect(file)
        database.execute("UPDATE topics SET name = CAST(x'ff' AS TEXT)")
        database.commit()
        database.close()
        with pytest.raises(BagError, match="is damaged, and nothing in it can be read"):
            open_recording(file)

    def test_rows_that_are_no_messages(self, tmp_path):
        file = bag_files.write_old_sqlite(tmp_path / "drive.db3", bag_files.images(COUNT))
        database = sqlite3.connect(file)
        database.execute("UPDATE messages SET data = 'text' WHERE id = 3")
        database.execute("UPDATE messages SET timestamp = 'noon' WHERE id = 4")
        database.commit()
        database.close()
        frames, problem = read(file)
        assert numbers(frames) == [0, 1, *range(4, COUNT)]
        assert problem == f"drive.db3 is damaged: {COUNT - 2} of {COUNT} frames read, the rest is lost"

    def test_rows_that_are_gone(self, tmp_path):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(COUNT), SQLITE3)
        database = sqlite3.connect(bag_files.storage_file(folder))
        database.execute("DELETE FROM messages WHERE id = 3")
        database.commit()
        database.close()
        assert read(folder)[1] == f"{folder} is damaged: {COUNT - 1} of {COUNT} frames read, the rest is lost"

    @pytest.mark.parametrize("storage", [SQLITE3, MCAP])
    def test_a_missing_file_of_a_split_recording(self, tmp_path, storage):
        folder = bag_files.write_split_rosbag2(tmp_path / "drive", bag_files.images(COUNT), 3, storage)
        (missing,) = folder.glob("drive_1.*")
        missing.unlink()
        frames, problem = read(folder)
        assert numbers(frames) == [0, 1, 2, 3, 8, 9, 10, 11]
        assert problem == f"{missing.name} cannot be read: 8 of {COUNT} frames read, the rest is lost"

    def test_one_of_several_frames_is_said_in_the_plural(self, tmp_path):
        folder = bag_files.write_split_rosbag2(tmp_path / "drive", bag_files.images(2), 2, MCAP)
        (folder / "drive_1.mcap").unlink()
        assert read(folder)[1] == "drive_1.mcap cannot be read: 1 of 2 frames read, the rest is lost"

    def test_killed_while_it_began_the_next_file(self, tmp_path):
        folder = bag_files.write_split_rosbag2(tmp_path / "drive", bag_files.images(COUNT), 3, MCAP)
        (folder / "metadata.yaml").unlink()
        (folder / "drive_3.mcap").touch()
        frames, problem = read(folder)
        assert numbers(frames) == list(range(COUNT))
        assert problem == f"drive_3.mcap cannot be read: {COUNT} frames read, the rest is lost"

    def test_killed_while_it_compressed_a_file(self, tmp_path):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(COUNT), MCAP)
        (folder / "metadata.yaml").unlink()
        (folder / "drive.mcap.zstd").write_bytes(zstandard.compress((folder / "drive.mcap").read_bytes())[:5000])
        frames, problem = read(folder)
        assert numbers(frames) == list(range(COUNT))
        assert problem is None

    def test_killed_with_rows_in_the_log(self, tmp_path):
        """As `ros2 bag record --storage-preset-profile resilient` leaves it: SQLite's log holds what the file lacks."""
        source = bag_files.write_old_sqlite(tmp_path / "source.db3", bag_files.images(COUNT))
        recorder = (
            "import os, signal, sqlite3, sys\n"
            "database = sqlite3.connect(sys.argv[1])\n"
            "database.execute('PRAGMA journal_mode = WAL')\n"
            "database.executescript('\\n'.join(sqlite3.connect(sys.argv[2]).iterdump()))\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        folder = tmp_path / "drive"
        folder.mkdir()
        killed = subprocess.run([sys.executable, "-c", recorder, folder / "drive_0.db3", source])
        assert killed.returncode == -signal.SIGKILL
        assert (folder / "drive_0.db3-wal").stat().st_size > (folder / "drive_0.db3").stat().st_size
        frames, problem = read(folder)
        assert numbers(frames) == list(range(COUNT))
        assert problem is None


@pytest.fixture(scope="module", params=["plain", "lz4", "zstd", "sqlite", "rosbag2"])
def specimen(request, tmp_path_factory) -> Path:
    """A whole recording, to be damaged."""
    folder = tmp_path_factory.mktemp("specimen")
    messages = [*two_cameras(), *bag_files.images(1)]
    if request.param == "sqlite":
        return bag_files.storage_file(bag_files.write_rosbag2(folder / "drive", messages, SQLITE3))
    if request.param == "rosbag2":
        return bag_files.storage_file(bag_files.write_rosbag2(folder / "drive", messages, MCAP))
    compression = {"plain": CompressionType.NONE, "lz4": CompressionType.LZ4, "zstd": CompressionType.ZSTD}
    return bag_files.write_mcap(folder / "drive.mcap", messages, compression[request.param], chunk_size=4000)


# The heads and tails of files are where their structure is.
positions = st.one_of(st.floats(0, 0.999), st.floats(0, 0.02), st.floats(0.98, 0.999))


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.tuples(positions, st.integers(1, 255)), min_size=1, max_size=5))
def test_flipped_bytes_end_in_frames_or_in_a_bag_error(specimen, flips):
    content = bytearray(specimen.read_bytes())
    for position, change in flips:
        content[int(position * len(content))] ^= change
    damaged = specimen.with_name("damaged")
    damaged.write_bytes(content)
    has_checksums = specimen.parent.name != "drive"
    try:
        recording = open_recording(damaged)
    except BagError:
        return
    for camera in recording.cameras:
        frames = list(recording.frames(camera))
        if camera.count is not None and len(frames) < camera.count:
            assert re.search(r"damaged (is|has) .* read, the rest is lost$", recording.problem)
        if has_checksums and camera.name == CAMERA:
            numbers(frames)
