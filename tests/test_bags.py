import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import cv2
import lz4.frame
import numpy as np
import pytest
import yaml
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from rosbags.typesys import Stores, get_typestore

from re2pix_node.bags import BagFrame, open_recording
from re2pix_node.errors import BagError
from re2pix_node.images import decode
from tests import bag_files
from tests.bag_files import CAMERA, COMPRESSED, IMAGE, received

ROOT = Path(__file__).resolve().parents[1]
COUNT = 12
SQLITE3, MCAP = StoragePlugin.SQLITE3, StoragePlugin.MCAP


def read(path: Path, topic: str | None = None) -> tuple[list[BagFrame], str | None]:
    with open_recording(path) as recording:
        frames = list(recording.frames(recording.camera(topic)))
        return frames, recording.problem


def numbers(frames: list[BagFrame]) -> list[int]:
    """Which of bag_files.images() the frames are; every byte and time is compared."""
    found = []
    for frame in frames:
        number = int(frame.frame_id.removeprefix("camera_"))
        assert frame.stamp == (1_700_000_000 + number) * 10**9 + 250_000_000
        assert frame.received == received(number)
        assert bag_files.serialized(frame.message) == bag_files.serialized(bag_files.image(number, frame.message.width))
        found.append(number)
    return found


RECORDERS = {
    "mcap": lambda path, messages: bag_files.write_rosbag2(path, messages, MCAP),
    "mcap, version 8": lambda path, messages: bag_files.write_rosbag2(path, messages, MCAP, version=8),
    "mcap, chunks compressed": lambda path, messages: bag_files.write_rosbag2(
        path, messages, MCAP, compression=CompressionMode.STORAGE
    ),
    "mcap, file compressed": lambda path, messages: bag_files.write_rosbag2(
        path, messages, MCAP, compression=CompressionMode.FILE
    ),
    "mcap, messages compressed": lambda path, messages: bag_files.write_rosbag2(
        path, messages, MCAP, compression=CompressionMode.MESSAGE
    ),
    "mcap, split": lambda path, messages: bag_files.write_split_rosbag2(path, messages, 3, MCAP),
    "sqlite": lambda path, messages: bag_files.write_rosbag2(path, messages, SQLITE3),
    "sqlite, version 8": lambda path, messages: bag_files.write_rosbag2(path, messages, SQLITE3, version=8),
    "sqlite, file compressed": lambda path, messages: bag_files.write_rosbag2(
        path, messages, SQLITE3, compression=CompressionMode.FILE
    ),
    "sqlite, messages compressed": lambda path, messages: bag_files.write_rosbag2(
        path, messages, SQLITE3, compression=CompressionMode.MESSAGE
    ),
    "sqlite, split": lambda path, messages: bag_files.write_split_rosbag2(path, messages, 3, SQLITE3),
}
TOOLS = {
    "foxglove, plain": lambda path, messages: bag_files.write_mcap(path, messages, CompressionType.NONE),
    "foxglove, lz4": lambda path, messages: bag_files.write_mcap(path, messages, CompressionType.LZ4),
    "foxglove, zstd": lambda path, messages: bag_files.write_mcap(path, messages, CompressionType.ZSTD),
    "foxy": lambda path, messages: bag_files.write_old_sqlite(path, messages),
}


def two_cameras() -> bag_files.Messages:
    raw = bag_files.images(COUNT)
    small = [("/rear/compressed", received(number) + 1, bag_files.compressed_image(number)) for number in range(COUNT)]
    return [item for pair in zip(raw, small, strict=True) for item in pair]


class TestEveryRecorder:
    @pytest.mark.parametrize("recorder", [*RECORDERS, *TOOLS])
    def test_cameras_and_frames(self, tmp_path, recorder):
        path = {**RECORDERS, **TOOLS}[recorder](tmp_path / "drive", two_cameras())
        with open_recording(path) as recording:
            cameras = {(camera.name, camera.type, camera.count) for camera in recording.cameras}
            assert cameras == {(CAMERA, "Image", COUNT), ("/rear/compressed", "CompressedImage", COUNT)}
            assert numbers(list(recording.frames(recording.camera(CAMERA)))) == list(range(COUNT))
            assert recording.problem is None
            rear = list(recording.frames(recording.camera("/rear/compressed")))
            assert recording.problem is None
        assert [frame.received for frame in rear] == [received(number) + 1 for number in range(COUNT)]
        assert [frame.message.data.tolist() for frame in rear] == [[n] * (100 + n) for n in range(COUNT)]
        assert {frame.message.format for frame in rear} == {"jpeg"}

    @pytest.mark.parametrize("recorder", [name for name in RECORDERS if "split" not in name])
    def test_the_file_alone(self, tmp_path, recorder):
        file = bag_files.storage_file(RECORDERS[recorder](tmp_path / "drive", bag_files.images(COUNT)))
        alone = file.rename(tmp_path / "alone.bin")
        frames, problem = read(alone)
        assert numbers(frames) == list(range(COUNT))
        assert problem is None

    @pytest.mark.parametrize("recorder", RECORDERS)
    def test_killed_before_it_wrote_metadata(self, tmp_path, recorder):
        folder = RECORDERS[recorder](tmp_path / "drive", bag_files.images(COUNT))
        (folder / "metadata.yaml").unlink()
        frames, problem = read(folder)
        assert numbers(frames) == list(range(COUNT))
        assert problem is None

    @pytest.mark.parametrize(
        "options",
        [{"use_chunking": False}, {"repeat_channels": False}, {"repeat_schemas": False}, bag_files.UNINDEXED],
    )
    def test_mcap_without_chunks_or_index(self, tmp_path, options):
        payloads = [bag_files.serialized(bag_files.image(number)) for number in range(COUNT)]
        with open_recording(bag_files.write_bare_mcap(tmp_path / "a.mcap", payloads, **options)) as recording:
            assert recording.camera().count == COUNT
            assert numbers(list(recording.frames(recording.camera()))) == list(range(COUNT))
            assert recording.problem is None

    def test_camera_messages_are_the_same_in_every_distribution(self):
        kinds = [IMAGE, COMPRESSED, "std_msgs/msg/Header", "builtin_interfaces/msg/Time"]
        distributions = [store for store in Stores if store.name.startswith("ROS2")]
        assert len(distributions) > 5
        for store in distributions:
            definitions = get_typestore(store).fielddefs
            assert {kind: definitions[kind] for kind in kinds} == {k: bag_files.TYPES.fielddefs[k] for k in kinds}, (
                store
            )

    def test_big_endian_messages(self, tmp_path):
        payload = bytes(bag_files.TYPES.serialize_cdr(bag_files.image(0), IMAGE, little_endian=False))
        frames, _ = read(bag_files.write_bare_mcap(tmp_path / "a.mcap", [payload]))
        assert numbers(frames) == [0]

    @pytest.mark.parametrize("storage", [SQLITE3, MCAP])
    def test_the_order_is_that_of_the_recording(self, tmp_path, storage):
        messages = [bag_files.images(COUNT)[number] for number in (3, 4, 0, 1, 2)]
        frames, problem = read(bag_files.write_rosbag2(tmp_path / "drive", messages, storage))
        assert numbers(frames) == [3, 4, 0, 1, 2]
        assert problem is None

    @pytest.mark.parametrize("storage", [SQLITE3, MCAP])
    def test_topics_of_one_type(self, tmp_path, storage):
        left = [("/left", received(number), bag_files.image(number)) for number in range(3)]
        right = [("/right", received(number), bag_files.image(number)) for number in range(3, 5)]
        path = bag_files.write_rosbag2(tmp_path / "drive", [*left, *right], storage)
        assert numbers(read(path, "/left")[0]) == [0, 1, 2]
        assert numbers(read(path, "/right")[0]) == [3, 4]

    def test_more_than_ten_files(self, tmp_path):
        folder = bag_files.write_split_rosbag2(tmp_path / "drive", bag_files.images(COUNT), COUNT, MCAP)
        assert numbers(read(folder)[0]) == list(range(COUNT))
        (folder / "metadata.yaml").unlink()
        assert numbers(read(folder)[0]) == list(range(COUNT))

    def test_a_renamed_file(self, tmp_path):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(COUNT))
        bag_files.storage_file(folder).rename(folder / "renamed.mcap")
        frames, problem = read(folder)
        assert numbers(frames) == list(range(COUNT))
        assert problem is None

    def test_names_that_a_uri_would_misread(self, tmp_path):
        folder = bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(COUNT), SQLITE3)
        file = bag_files.storage_file(folder).rename(tmp_path / "50%20 #1?x=y.db3")
        assert numbers(read(file)[0]) == list(range(COUNT))

    def test_frames_can_be_read_again(self, tmp_path):
        with open_recording(bag_files.write_rosbag2(tmp_path / "drive", bag_files.images(COUNT))) as recording:
            camera = recording.camera()
            next(recording.frames(camera))
            for _ in range(2):
                assert numbers(list(recording.frames(camera))) == list(range(COUNT))

    def test_unpacked_files_do_not_stay(self, tmp_path, monkeypatch):
        unpacked = tmp_path / "tmp"
        unpacked.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(unpacked))
        folder = RECORDERS["mcap, file compressed"](tmp_path / "drive", bag_files.images(COUNT))
        with open_recording(folder) as recording:
            assert list(unpacked.iterdir())
            assert numbers(list(recording.frames(recording.camera()))) == list(range(COUNT))
        assert not list(unpacked.iterdir())
        bag_files.storage_file(folder).write_bytes(zstandard.compress(b"no bag"))
        with pytest.raises(BagError, match="neither MCAP nor SQLite"):
            open_recording(folder)
        assert not list(unpacked.iterdir())

    def test_no_room_to_unpack(self, tmp_path):
        messages = [(CAMERA, received(0), bag_files.image(0, 640, 480))]
        folder = RECORDERS["mcap, file compressed"](tmp_path / "drive", messages)
        program = (
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from re2pix_node.bags import BagError, open_recording\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "try:\n"
            "    open_recording(Path(sys.argv[1]))\n"
            "except BagError as error:\n"
            "    print(error)\n"
        )
        run = subprocess.run([sys.executable, "-c", program, folder], cwd=ROOT, capture_output=True, text=True)
        assert run.stderr == ""
        assert re.fullmatch(r".*drive.mcap.zstd: cannot be unpacked into .*: set TMPDIR to a folder .*\n", run.stdout)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "jpeg"])
@pytest.mark.parametrize("storage", [SQLITE3, MCAP])
def test_pictures_can_be_decoded(tmp_path, encoding, storage):
    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp, ramp[::-1], np.uint8(90)), -1)[None].repeat(24, 0)
    if encoding == "mono8":
        picture = picture[:, :, :1].repeat(3, 2)
    if encoding == "jpeg":
        data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
        item = bag_files.message(COMPRESSED, header=bag_files.header(0), format="jpeg", data=data)
    else:
        pixels = {"rgb8": picture, "bgr8": picture[:, :, ::-1], "mono8": picture[:, :, :1]}[encoding]
        item = bag_files.image(0)
        item.encoding, item.step, item.data = encoding, pixels.shape[1] * pixels.shape[2], pixels.flatten()
    frames, _ = read(bag_files.write_rosbag2(tmp_path / "drive", [(CAMERA, received(0), item)], storage))
    assert np.abs(decode(frames[0].message).astype(int) - picture).max() <= (8 if encoding == "jpeg" else 0)


class TestChoosingACamera:
    def test_the_only_one_and_the_named_one(self, tmp_path):
        with open_recording(bag_files.write_rosbag2(tmp_path / "one", bag_files.images(1))) as recording:
            assert recording.camera().name == CAMERA
            assert recording.camera(CAMERA) is recording.camera(None)

    def test_several(self, tmp_path):
        with open_recording(bag_files.write_rosbag2(tmp_path / "two", two_cameras())) as recording:
            with pytest.raises(BagError, match=f"several camera topics: .*--topic: {CAMERA}, /rear/compressed$"):
                recording.camera()
            assert recording.camera("/rear/compressed").type == "CompressedImage"

    def test_an_unknown_one(self, tmp_path):
        recording = open_recording(bag_files.write_rosbag2(tmp_path / "one", bag_files.images(1)))
        with recording, pytest.raises(BagError, match=f"no camera topic /wrong: .*--topic: {CAMERA}$"):
            recording.camera("/wrong")

    @pytest.mark.parametrize("topic", [None, "/clock"])
    def test_none_lists_what_there_is(self, tmp_path, topic):
        time = bag_files.message("builtin_interfaces/msg/Time", sec=1, nanosec=2)
        clock = bag_files.message("rosgraph_msgs/msg/Clock", clock=time)
        with open_recording(bag_files.write_rosbag2(tmp_path / "drive", [("/clock", 1, clock)])) as recording:
            assert recording.cameras == []
            with pytest.raises(BagError, match=r"sensor_msgs/msg/Image .*/clock \(rosgraph_msgs/msg/Clock\)$"):
                recording.camera(topic)

    @pytest.mark.parametrize("storage", [SQLITE3, MCAP])
    def test_an_empty_recording(self, tmp_path, storage):
        recording = open_recording(bag_files.write_rosbag2(tmp_path / "drive", [], storage))
        with recording, pytest.raises(BagError, match="it holds nothing"):
            recording.camera()


class TestWhatIsNoRecording:
    def refusal(self, path: Path) -> str:
        with pytest.raises(BagError) as caught:
            open_recording(path)
        message = str(caught.value)
        assert message.startswith(f"{path}")
        assert "\n" not in message
        return message

    @pytest.mark.parametrize("name", ["drive", "drive.mcap", "a" * 300])
    def test_missing(self, tmp_path, name):
        assert "check the path" in self.refusal(tmp_path / name)

    def test_folder_without_bag_files(self, tmp_path):
        (tmp_path / "notes.txt").write_text("nothing")
        assert "holds no .mcap or .db3 file" in self.refusal(tmp_path)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "is empty"),
            (b"a text, and no bag at all\n" * 9, "neither MCAP nor SQLite"),
            (b"\x89MCAP0", "neither MCAP nor SQLite"),
            (b"#ROSBAG V2.0\n", "ROS 1 bag: convert it"),
            (b"\x89MCAP0\r\n", "is truncated, and nothing in it can be read"),
            (b"SQLite format 3\0", "is truncated, and nothing in it can be read"),
        ],
    )
    def test_file(self, tmp_path, content, reason):
        file = tmp_path / "drive.mcap"
        file.write_bytes(content)
        assert reason in self.refusal(file)

    def test_another_database(self, tmp_path):
        database = sqlite3.connect(tmp_path / "places.db3")
        database.execute("CREATE TABLE places(id INTEGER)")
        database.commit()
        database.close()
        assert "holds no recording" in self.refusal(tmp_path / "places.db3")

    def test_folder_of_several_recordings(self, tmp_path):
        for name in ("a_0", "b_0"):
            bag_files.write_mcap(tmp_path / f"{name}.mcap", bag_files.images(1))
        assert "holds several recordings and no metadata.yaml: give one of a_0.mcap, b_0.mcap" in self.refusal(tmp_path)

    def test_folder_whose_only_file_is_empty(self, tmp_path):
        (tmp_path / "drive_0.mcap").touch()
        assert "is empty" in self.refusal(tmp_path)


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


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
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
