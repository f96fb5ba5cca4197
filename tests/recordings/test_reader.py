"""Recordings of every kind that are whole, and files that are not recordings."""

import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import zstandard
from mcap.writer import CompressionType
from rosbags.rosbag2 import CompressionMode
from rosbags.typesys import Stores, get_typestore

from re2pix_node.errors import BagError
from re2pix_node.imaging.decode import decode
from re2pix_node.recordings.reader import open_recording
from tests.support import bag_files
from tests.support.bag_files import (
    CAMERA,
    COMPRESSED,
    COUNT,
    IMAGE,
    MCAP,
    SQLITE3,
    numbers,
    read,
    received,
    two_cameras,
)

ROOT = Path(__file__).resolve().parents[2]


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
            "from re2pix_node.recordings.reader import BagError, open_recording\n"
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
