"""Recordings in, forecasts out, the same every time."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from re2pix_node.bundle.reader import Bundle
from re2pix_node.cli import main
from re2pix_node.engines.session import open_engine
from re2pix_node.imaging.decode import decode, decode_image
from re2pix_node.pipeline.messages import header_message, image_message, mask_of, stamp_of
from re2pix_node.pipeline.pipeline import Pipeline
from re2pix_node.recordings.message_types import bag_types
from re2pix_node.recordings.reader import open_recording
from re2pix_node.recordings.writer import BagWriter
from re2pix_node.render.renderer import PictureRenderer
from tests.support import drive, faulty_bundle
from tests.support.drive_bag import START, make_drive_bag


def replay(drive_bag: Path, out: Path, bundle: Bundle, *options: str) -> int:
    return main(["replay", str(drive_bag), "-o", str(out), "--bundle", str(bundle.path), *options])


def payloads(bag: Path) -> list[tuple[str, int, int, bytes]]:
    (mcap,) = bag.glob("*.mcap")
    with mcap.open("rb") as file:
        return [
            (channel.topic, message.log_time, message.publish_time, message.data)
            for _, channel, message in make_reader(file).iter_messages()
        ]


def test_two_runs_give_the_same_bytes(drive_bag: Path, tiny: Bundle, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert replay(drive_bag, tmp_path / name, tiny, "--outputs", "segmentation,confidence,features") == 0
    first, second = payloads(tmp_path / "a"), payloads(tmp_path / "b")
    assert first == second
    assert len({topic for topic, *_ in first}) == 1 + 3 * 4


@pytest.fixture(scope="module")
def short_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of the drive, for what takes long for each frame."""
    path = tmp_path_factory.mktemp("short") / "drive"
    make_drive_bag(path, seconds=1)
    return path


@dataclass(frozen=True)
class Replayed:
    mcap: Path
    said: str


@pytest.fixture(scope="module")
def replayed(drive_bag: Path, tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The drive by ONNX Runtime."""
    folder = tmp_path_factory.mktemp("replayed")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert replay(drive_bag, folder / "out", tiny, "--engine", "onnxruntime") == 0
    (mcap,) = (folder / "out").glob("*.mcap")
    return Replayed(mcap, said.getvalue())


def test_an_independent_reader_finds_every_frames_forecast(replayed: Replayed) -> None:
    mcap = replayed.mcap
    with mcap.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        found = [(channel.topic, m.log_time, ros) for _, channel, m, ros in reader.iter_decoded_messages()]
    forecasts = [(log, ros) for topic, log, ros in found if topic == "/re2pix_node/output/forecast"]
    # 90 frames at 30 Hz; the shortest allowed spacing, 4 frames, gives the first context at the 13th frame.
    assert len(forecasts) == 90 - 12
    step = round(1e9 / 30)
    for i, (log, ros) in enumerate(forecasts):
        stamp = ros.header.stamp.sec * 10**9 + ros.header.stamp.nanosec
        assert stamp == pytest.approx(START + (12 + i) * step, abs=100)
        assert log == stamp  # this bag was logged at its stamps
        assert ros.engine == "onnxruntime fp32"
        assert (ros.age.sec, ros.age.nanosec, ros.processing_time.nanosec) == (0, 0, 0)
    # After 16 frames the spacing nearest to 0.18 s is on offer, 5 frames, and it stays.
    assert {ros.spacing.nanosec // 10_000_000 for _, ros in forecasts[6:]} == {16}
    assert "90 frames, 78 forecasts, 0 undecodable" in replayed.said


def test_the_masks_are_those_of_the_pipeline(drive_bag: Path, tiny: Bundle, replayed: Replayed) -> None:
    pipeline = Pipeline(tiny, open_engine(tiny, "onnxruntime")[0])
    with open_recording(drive_bag) as recording:
        frames = list(recording.frames(recording.camera(None)))
    seen = [pipeline.observe(decode(frame.message), frame.stamp) for frame in frames]
    expected = [observation.forecast for observation in seen if observation.forecast]
    with replayed.mcap.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        masks = [
            mask_of(ros) for *_, ros in reader.iter_decoded_messages(topics=["/re2pix_node/output/h2/segmentation"])
        ]
    assert len(masks) == len(expected)
    for mask, forecast in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(mask, forecast.labels[0, 2])


@pytest.mark.parametrize("ending", [".webm", ".mp4"])
def test_the_preview_video_shows_the_drive(short_bag: Path, tiny: Bundle, tmp_path: Path, ending: str, capfd) -> None:
    video = tmp_path / f"preview{ending}"
    assert replay(short_bag, tmp_path / "out", tiny, "--video", str(video)) == 0
    assert "OpenCV" not in capfd.readouterr().err
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(30, abs=0.5)
    pictures = []
    while (read := capture.read())[0]:
        pictures.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    assert len(pictures) == 30 - 12
    # The camera panel of the first picture is the 13th frame of the drive.
    expected = cv2.resize(drive.frame(12 / 30, 640, 360)[20:340], (320, 160), interpolation=cv2.INTER_AREA)
    assert np.abs(pictures[0][26:186, :320].astype(int) - expected).mean() < 8
    # The panels beside it carry class colours, not the camera.
    assert np.abs(pictures[0][26:186, 320:640].astype(int) - expected).mean() > 15


class TestPictures:
    """re2pix replay --render"""

    def test_every_forecast_is_drawn_at_every_horizon(
        self, short_bag: Path, drawing: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        video = tmp_path / "video.mp4"
        options = ("--engine", "onnxruntime", "--render", "--video", str(video))
        assert replay(short_bag, tmp_path / "out", drawing, *options) == 0
        assert "engine onnxruntime fp32, pictures by " in capsys.readouterr().out
        renderer, pipeline = PictureRenderer(drawing), Pipeline(drawing, open_engine(drawing, "onnxruntime")[0])
        found = {k: images(tmp_path / "out", f"/re2pix_node/output/h{k}/image") for k in (1, 2, 3)}
        masks = images(tmp_path / "out", "/re2pix_node/output/h1/segmentation")
        drawn = 0
        with open_recording(short_bag) as recording:
            for source in recording.frames(recording.camera(None)):
                observation = pipeline.observe(decode(source.message), source.stamp)
                forecast = observation.forecast
                if forecast is None:
                    continue
                for k, messages in found.items():
                    assert stamp_of(messages[drawn].header) == stamp_of(masks[drawn].header) == forecast.stamp
                    expected = renderer.draw(observation.scene(k))
                    np.testing.assert_array_equal(decode_image(messages[drawn]), expected)
                drawn += 1
        assert drawn == 18
        assert {len(messages) for messages in found.values()} == {18}
        capture = cv2.VideoCapture(str(video))
        # Camera, four masks, three pictures and the legend: one row more than without pictures.
        assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (960, 3 * 186)
        last = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)[2 * 186 + 26 : 3 * 186, 320:640]
        expected = cv2.resize(decode_image(found[3][0]), (320, 160), interpolation=cv2.INTER_AREA)
        assert np.abs(last.astype(int) - expected).mean() < 12

    def test_without_the_option_nothing_is_drawn(self, short_bag: Path, drawing: Bundle, tmp_path: Path, tiny) -> None:
        for name, bundle in (("drawing", drawing), ("plain", tiny)):
            assert replay(short_bag, tmp_path / name, bundle) == 0
        assert payloads(tmp_path / "drawing") == payloads(tmp_path / "plain")

    def test_a_bundle_that_cannot_draw_is_refused_at_once(
        self, drive_bag: Path, tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert replay(drive_bag, tmp_path / "out", tiny, "--render") == 2
        assert f"{tiny.path}: has no graph that draws pictures" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_a_picture_that_is_not_finite_ends_the_replay(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle = faulty_bundle.make_faulty_bundle(tmp_path / "faulty")
        with BagWriter(tmp_path / "drive") as bag:
            for number in range(20):
                picture = faulty_bundle.picture(number / 10, faulty_bundle.RENDERER_NAN if number == 15 else None)
                stamp = START + number * 10**8
                bag.write(
                    "/camera", image_message(bag_types(), picture, header_message(bag_types(), stamp, "c")), stamp
                )
        given = (tmp_path / "drive", tmp_path / "out", bundle, "--engine", "onnxruntime")
        assert replay(*given, "--render") == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith("re2pix replay: ")
        when = f"of the forecast made at {START // 10**9 + 1}.500 s"
        assert said.endswith(f": render gave a picture with NaN or infinity, {when}: replay without --render")
        assert not (tmp_path / "out").exists()
        assert replay(*given) == 0


def images(bag: Path, topic: str) -> list:
    (mcap,) = bag.glob("*.mcap")
    with mcap.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        return [ros for *_, ros in reader.iter_decoded_messages(topics=[topic])]


class TestRefusals:
    """Exit code 2, one line, and nothing left behind."""

    @staticmethod
    def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("re2pix ")
        assert "\n" not in error
        return error

    def test_no_recording(self, tiny: Bundle, tmp_path: Path, capsys) -> None:
        error = self.refused(capsys, "replay", tmp_path / "no", "-o", tmp_path / "out", "--bundle", tiny.path)
        assert str(tmp_path / "no") in error
        assert list(tmp_path.iterdir()) == []

    def test_no_bundle(self, drive_bag: Path, tmp_path: Path, capsys) -> None:
        error = self.refused(capsys, "replay", drive_bag, "-o", tmp_path / "out", "--bundle", tmp_path / "nothing")
        assert "no such folder" in error

    def test_the_output_exists(self, drive_bag: Path, tiny: Bundle, tmp_path: Path, capsys) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("kept")
        error = self.refused(capsys, "replay", drive_bag, "-o", tmp_path / "out", "--bundle", tiny.path)
        assert "--force" in error
        assert (tmp_path / "out" / "mine").read_text() == "kept"

    def test_an_unknown_topic(self, drive_bag: Path, tiny: Bundle, tmp_path: Path, capsys) -> None:
        error = self.refused(
            capsys, "replay", drive_bag, "-o", tmp_path / "out", "--bundle", tiny.path, "--topic", "/rear"
        )
        assert "/camera/image/compressed" in error

    def test_an_unknown_output(self, drive_bag: Path, tiny: Bundle, tmp_path: Path, capsys) -> None:
        error = self.refused(
            capsys, "replay", drive_bag, "-o", tmp_path / "out", "--bundle", tiny.path, "--outputs", "depth"
        )
        assert "'depth'" in error

    @pytest.mark.parametrize("option", ["--engine", "--precision", "--fit"])
    def test_an_unknown_choice(self, drive_bag: Path, tiny: Bundle, tmp_path: Path, capsys, option: str) -> None:
        error = self.refused(
            capsys, "replay", drive_bag, "-o", tmp_path / "out", "--bundle", tiny.path, option, "nonsense"
        )
        assert f"there is no {option[2:]} 'nonsense': choose one of" in error

    def test_a_video_of_an_unknown_kind(self, drive_bag: Path, tiny: Bundle, tmp_path: Path, capsys) -> None:
        error = self.refused(
            capsys, "replay", drive_bag, "-o", tmp_path / "out", "--bundle", tiny.path, "--video", tmp_path / "v.gif"
        )
        assert ".webm" in error
        assert list(tmp_path.iterdir()) == []

    def test_a_camera_too_slow_for_the_model(self, tiny: Bundle, tmp_path: Path, capsys) -> None:
        make_drive_bag(tmp_path / "slow", seconds=10, rate=2)
        error = self.refused(capsys, "replay", tmp_path / "slow", "-o", tmp_path / "out", "--bundle", tiny.path)
        assert "no forecast from 20 frames" in error
        assert "0.12 to 0.24 s apart" in error
        assert [path.name for path in tmp_path.iterdir()] == ["slow"]


def test_a_truncated_recording_gives_what_is_whole_and_says_so(tiny: Bundle, tmp_path: Path, capsys) -> None:
    make_drive_bag(tmp_path / "drive", seconds=4)
    (mcap,) = (tmp_path / "drive").glob("*.mcap")
    data = mcap.read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: len(data) * 2 // 3])
    assert replay(tmp_path / "cut.mcap", tmp_path / "out", tiny) == 0
    said = capsys.readouterr()
    assert "truncated" in said.err
    frames = int(said.out.split(" frames")[0])
    assert 30 <= frames < 90
    assert len([p for p in payloads(tmp_path / "out") if p[0].endswith("/forecast")]) == frames - 12
