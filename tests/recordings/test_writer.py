import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader

from re2pix_node.common import shipped
from re2pix_node.errors import BagError
from re2pix_node.recordings.reader import open_recording
from re2pix_node.recordings.writer import BagWriter, message_types
from tests.support import bag_files

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "ros2_ws/install/re2pix_msgs/share/re2pix_msgs/msg"
TOPICS = {"/re2pix/forecast": "re2pix_msgs/msg/Forecast", "/re2pix/h2/features": "re2pix_msgs/msg/FeatureMap"}


def make(kind: str, **fields: Any) -> Any:
    return message_types().types[kind](**fields)


def time(nanoseconds: int) -> Any:
    return make("builtin_interfaces/msg/Time", sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def duration(nanoseconds: int) -> Any:
    return make("builtin_interfaces/msg/Duration", sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def region() -> Any:
    return make(
        "re2pix_msgs/msg/ImageRegion", image_width=1920, image_height=1080, x=-0.5, y=60.25, width=1921.0, height=960.75
    )


def header(number: int) -> Any:
    return make("std_msgs/msg/Header", stamp=time(1_700_000_000_123_456_789 + number), frame_id="front_camera")


def forecast(number: int) -> Any:
    return make(
        "re2pix_msgs/msg/Forecast",
        header=header(number),
        bundle="tiny",
        bundle_version="1.2.3",
        engine="onnxruntime fp32",
        basis="ab" * 32,
        context_stamps=[time(number + step) for step in range(4)],
        spacing=duration(180_000_000),
        horizons=[duration(step * 180_000_000) for step in range(3)],
        predicted_stamps=[time(7 * 10**9 + step) for step in range(3)],
        mask_height=240,
        mask_width=480,
        region=region(),
        class_ids=np.array([0, 1, 255], np.uint8),
        class_names=["road", "", "Straße"],
        class_moving=np.array([False, True, True]),
        outputs=["h0/segmentation", "h2/features"],
        skill=np.array([np.nan, 0.25, -3.5], np.float32),
        age=duration(0),
        processing_time=duration(31_000_001),
        frames_dropped=2**40 + number,
    )


def features(number: int, channels: int = 8) -> Any:
    data = np.random.default_rng(number).integers(0, 256, 6 * 4 * channels * 2, np.uint8)
    return make(
        "re2pix_msgs/msg/FeatureMap",
        header=header(number),
        horizon=duration(360_000_000),
        predicted_stamp=time(number),
        bundle="tiny",
        bundle_version="1.2.3",
        basis="cd" * 32,
        height=6,
        width=4,
        channels=channels,
        sample=1,
        samples=2,
        region=region(),
        dtype="float16",
        is_bigendian=False,
        data=data,
    )


def messages() -> list[tuple[str, Any, int]]:
    """Topic, message and stamp, as BagWriter.write takes them."""
    made = []
    for number in range(5):
        made.append(("/re2pix/forecast", forecast(number), 1000 + number))
        made.append(("/re2pix/h2/features", features(number), 1000 + number))
    return made


def write(path: Path, replace: bool = False) -> Path:
    with BagWriter(path, replace) as writer:
        for message in messages():
            writer.write(*message)
    return path


def plain(message: Any, like: Any) -> Any:
    """The fields that `like` has, of a message of any library."""
    if dataclasses.is_dataclass(like):
        names = [field.name for field in dataclasses.fields(like) if field.name[0].islower()]  # no constants
        return {name: plain(getattr(message, name), getattr(like, name)) for name in names}
    if isinstance(like, list | np.ndarray):
        return [plain(item, like_item) for item, like_item in zip(message, like, strict=True)]
    value = message.item() if isinstance(message, np.generic) else message
    return "NaN" if value != value else value


def test_plain_sees_every_difference():
    assert plain(forecast(1), forecast(1)) == plain(forecast(1), forecast(1))
    changed = forecast(1)
    changed.region.y = 60.5
    assert plain(changed, changed) != plain(forecast(1), forecast(1))


class TestMessageTypes:
    @pytest.mark.skipif(not BUILT.is_dir(), reason="re2pix_msgs is not built: run make")
    def test_hashes_are_those_of_the_built_package(self):
        hashes = {}
        for file in BUILT.glob("*.json"):
            hashes |= {
                entry["type_name"]: entry["hash_string"] for entry in json.loads(file.read_text())["type_hashes"]
            }
        assert {"re2pix_msgs/msg/Forecast", "re2pix_msgs/msg/FeatureMap", "re2pix_msgs/msg/ImageRegion"} <= set(hashes)
        assert hashes == {kind: message_types().hash_rihs01(kind) for kind in hashes}

    def test_definitions_come_from_the_sourced_workspace(self, tmp_path, monkeypatch):
        folder = tmp_path / "second/share/re2pix_msgs/msg"
        folder.mkdir(parents=True)
        (folder / "Forecast.msg").write_text("uint8 sourced")
        monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
        assert self.forecast_fields() == ["sourced"]

    @pytest.mark.parametrize("prefixes", ["", "/nowhere"])
    def test_definitions_come_from_the_source_tree_otherwise(self, monkeypatch, prefixes):
        monkeypatch.setenv("AMENT_PREFIX_PATH", prefixes)
        assert "predicted_stamps" in self.forecast_fields()

    def test_no_definitions(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
        monkeypatch.setattr(shipped, "__file__", str(tmp_path / "re2pix_node/common/shipped.py"))
        with pytest.raises(BagError, match=r"Forecast.msg: is in no folder .*: source install/setup.bash"):
            self.forecast_fields()

    def forecast_fields(self) -> list[str]:
        store = message_types.__wrapped__()  # not the cached one
        return [name for name, _ in store.fielddefs["re2pix_msgs/msg/Forecast"][1]]


class TestWhatIsWritten:
    def test_an_independent_reader_sees_every_field(self, tmp_path):
        with (write(tmp_path / "out") / "out.mcap").open("rb") as stream:
            decoded = list(make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages())
        assert len(decoded) == len(messages())
        for (schema, channel, record, actual), (topic, expected, stamp) in zip(decoded, messages(), strict=True):
            assert (channel.topic, schema.name, record.log_time) == (topic, expected.__msgtype__, stamp)
            assert plain(actual, expected) == plain(expected, expected)

    def test_rclpy_sees_every_field(self, tmp_path):
        serialization = pytest.importorskip("rclpy.serialization", reason="ROS 2 is not there")
        kinds = pytest.importorskip("re2pix_msgs.msg", reason="re2pix_msgs is not built")
        with (write(tmp_path / "out") / "out.mcap").open("rb") as stream:
            records = list(make_reader(stream).iter_messages())
        for (schema, _, record), (_, expected, _) in zip(records, messages(), strict=True):
            actual = serialization.deserialize_message(record.data, getattr(kinds, schema.name.split("/")[-1]))
            assert plain(actual, expected) == plain(expected, expected)

    def test_rosbags_reads_it_with_the_definitions_inside(self, tmp_path):
        with AnyReader([write(tmp_path / "out")]) as reader:  # which checks the types' hashes
            assert {connection.topic: connection.msgtype for connection in reader.connections} == TOPICS
            assert [stamp for _, stamp, _ in reader.messages()] == [stamp for _, _, stamp in messages()]

    def test_cameras_can_be_read_back(self, tmp_path):
        with BagWriter(tmp_path / "out") as writer:
            for number in range(3):
                writer.write("/camera", bag_files.image(number), number)
        with open_recording(tmp_path / "out") as recording:
            frames = list(recording.frames(recording.camera()))
        assert [frame.received for frame in frames] == [0, 1, 2]
        assert [frame.frame_id for frame in frames] == ["camera_0", "camera_1", "camera_2"]
        assert recording.problem is None

    def test_metadata_is_for_any_player(self, tmp_path):
        metadata = yaml.safe_load((write(tmp_path / "out") / "metadata.yaml").read_text())[
            "rosbag2_bagfile_information"
        ]
        assert metadata["version"] <= 8  # Humble and Iron read no higher one
        assert metadata["storage_identifier"] == "mcap"
        assert metadata["relative_file_paths"] == ["out.mcap"]
        assert metadata["message_count"] == len(messages())
        assert metadata["starting_time"]["nanoseconds_since_epoch"] == 1000
        assert metadata["duration"]["nanoseconds"] == 4
        topics = {
            entry["topic_metadata"]["name"]: entry["topic_metadata"] for entry in metadata["topics_with_message_count"]
        }
        assert {name: topic["type"] for name, topic in topics.items()} == TOPICS
        for topic in topics.values():
            (qos,) = yaml.safe_load(topic["offered_qos_profiles"])
            # The numbers of rmw: reliable, volatile, keep the last ones, no deadline.
            assert (qos["reliability"], qos["durability"], qos["history"], qos["depth"]) == (1, 2, 1, 10)
            assert qos["deadline"] == {"sec": 9223372036, "nsec": 854775807}

    def test_two_runs_write_the_same_bytes(self, tmp_path):
        first = contents(write(tmp_path / "out"))
        assert contents(write(tmp_path / "out", replace=True)) == first

    def test_masks_take_little_room(self, tmp_path):
        mask = bag_files.image(0, 640, 480)
        mask.data = np.zeros_like(mask.data)
        with BagWriter(tmp_path / "out") as writer:
            writer.write("/mask", mask, 0)
        assert (tmp_path / "out/out.mcap").stat().st_size < mask.data.nbytes / 50

    def test_nothing_written_is_an_empty_recording(self, tmp_path):
        with BagWriter(tmp_path / "out"):
            pass
        with open_recording(tmp_path / "out") as recording:
            assert recording.cameras == []


class TestAllOrNothing:
    @pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt, SystemExit])
    def test_nothing_is_left_of_an_interrupted_one(self, tmp_path, interruption):
        def interrupted() -> None:
            with BagWriter(tmp_path / "out") as writer:
                writer.write(*messages()[0])
                assert not (tmp_path / "out").exists()
                assert list(tmp_path.iterdir())
                raise interruption

        with pytest.raises(interruption):
            interrupted()
        assert list(tmp_path.iterdir()) == []

    def test_an_existing_one_is_refused(self, tmp_path):
        before = contents(write(tmp_path / "out"))
        with pytest.raises(BagError, match=f"^{tmp_path / 'out'}: exists already: .*--force$"):
            write(tmp_path / "out")
        assert contents(tmp_path) == {f"out/{name}": data for name, data in before.items()}

    def test_an_existing_one_is_replaced_at_the_end(self, tmp_path):
        path = write(tmp_path / "out")
        before = contents(path)
        with BagWriter(path, replace=True) as writer:
            writer.write(*messages()[0])
            assert contents(path) == before
        assert contents(path).keys() == before.keys()
        assert contents(path) != before
        assert list(tmp_path.iterdir()) == [path]

    def test_an_existing_one_stays_when_its_replacement_is_interrupted(self, tmp_path):
        path = write(tmp_path / "out")
        before = contents(tmp_path)

        def interrupted() -> None:
            with BagWriter(path, replace=True) as writer:
                writer.write(*messages()[0])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_what_is_no_recording_is_never_replaced(self, tmp_path, kind):
        precious = tmp_path / "home" / "thesis.tex"
        precious.parent.mkdir()
        precious.write_text("years of work")
        path = precious if kind == "file" else precious.parent
        with pytest.raises(BagError, match=f"^{path}: exists and is not a recording"):
            write(path, replace=True)
        assert contents(tmp_path) == {"home/thesis.tex": b"years of work"}

    def test_the_folder_around_must_exist(self, tmp_path):
        with pytest.raises(BagError, match="does not exist"):
            write(tmp_path / "missing/out")
        assert list(tmp_path.iterdir()) == []

    def test_a_stamp_before_1970_is_refused(self, tmp_path):
        with pytest.raises(BagError, match="1970"), BagWriter(tmp_path / "out") as writer:
            writer.write("/re2pix/forecast", forecast(0), -1)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("count", [1, 3])  # fails when the file is closed, and at the second message
    def test_a_full_disk(self, tmp_path, count):
        program = (
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from re2pix_node.recordings.writer import BagWriter\n"
            "from re2pix_node.errors import BagError\n"
            "from tests.recordings.test_writer import features\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "try:\n"
            "    with BagWriter(Path(sys.argv[1])) as writer:\n"
            f"        for number in range({count}):\n"
            "            writer.write('/features', features(number, 20_000), number)\n"
            "except BagError as error:\n"
            "    print(error)\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "out"], cwd=ROOT, capture_output=True, text=True
        )
        assert run.stderr == ""
        assert run.stdout.startswith(f"{tmp_path / 'out'}: cannot be written (File too large): ")
        assert list(tmp_path.iterdir()) == []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
