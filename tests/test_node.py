"""The real node, as a process of its own, over real DDS."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from re2pix_msgs.msg import FeatureMap, Forecast
from sensor_msgs.msg import CompressedImage, Image

from re2pix_node.bundle import Bundle
from re2pix_node.messages import features_of, header_message, mask_of, ros_types, stamp_of
from tests.helpers import drive
from tests.ros_node import Listener, running_node, start

READY = 30.0
ERROR = b"\x02"


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    # Every test has a namespace of its own: late messages of the one before cannot reach it.
    listener = Listener(f"/t{abs(hash(request.node.name)) % 10**6}_{time.monotonic_ns()}")
    yield listener
    listener.node.destroy_node()


def namespace(listener: Listener) -> str:
    return listener.name.rsplit("/", 1)[0]


def image(picture: np.ndarray, stamp: int, encoding: str = "rgb8") -> Image:
    height, width, _ = picture.shape
    return Image(
        header=header_message(ros_types(), stamp, "camera"),
        height=height,
        width=width,
        encoding=encoding,
        step=3 * width,
        data=ros_types().array(picture.reshape(-1)),
    )


def send_until(listener: Listener, publisher, enough: Callable[[], bool], make=image, start: int = 10**18) -> bool:
    """Sends frames 0.1 s apart by their stamps until it is enough. What is sent before the two are connected is lost,
    as a camera's first images are."""
    for i in range(200):
        if enough():
            return True
        stamp = start + i * 10**8
        publisher.publish(make(drive.frame(i / 10, 256, 128), stamp))
        listener.spin(0.05)
    return enough()


def test_forecasts_of_a_720p_camera_at_30_hz_in_another_process(tiny: Bundle, listener: Listener) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    masks = listener.listen(Image, "h2/segmentation")
    features = listener.listen(FeatureMap, "h3/features")
    with running_node(namespace(listener), bundle=tiny.path, threads=1):
        assert listener.wait(lambda: bool(listener.status.get("engine")), READY), listener.message
        camera = start("-m", "tests.helpers.camera", f"{listener.name}/input/image", "--frames", 150)
        assert listener.wait(lambda: camera.poll() is not None, 60)
        listener.spin(1.5)
        sent = json.loads(camera.communicate()[0])
        assert camera.returncode == 0
    received = int(listener.status["frames received"])
    overtaken = int(listener.status["frames overtaken"])
    print(f"{len(sent)} sent, {received} received, {overtaken} overtaken, {len(forecasts)} forecasts,", end=" ")
    print(f"latency {listener.status['latency p50 (ms)']} ms, p99 {listener.status['latency p99 (ms)']} ms")
    # Best effort over shared memory loses nothing here; a loaded machine may lose a few.
    assert received >= 0.9 * len(sent)
    stamps = [stamp_of(message.header) for message in forecasts]
    assert len(stamps) == received - overtaken - int(listener.status["frames without context"])
    assert len(stamps) >= 0.8 * len(sent)
    assert set(stamps) <= set(sent)
    assert stamps == sorted(stamps)
    for message in forecasts:
        context = [s.sec * 10**9 + s.nanosec for s in message.context_stamps]
        spacing = message.spacing.sec * 10**9 + message.spacing.nanosec
        assert set(context) <= set(sent)
        assert context[-1] == stamp_of(message.header)
        assert 0.12e9 <= spacing <= 0.24e9
        assert np.abs(np.diff(context) - spacing).max() <= 2 * 0.02e9
        for k, predicted in enumerate(message.predicted_stamps):
            assert predicted.sec * 10**9 + predicted.nanosec == stamp_of(message.header) + k * spacing
        assert message.header.frame_id == "camera_front"
        assert (message.region.image_width, message.region.image_height) == (1280, 720)
        assert (
            0
            < message.processing_time.sec * 10**9 + message.processing_time.nanosec
            < message.age.sec * 10**9 + (message.age.nanosec)
        )
        assert {"h2/segmentation", "h3/features"} == set(message.outputs)
    assert [stamp_of(mask.header) for mask in masks] == stamps
    assert [stamp_of(feature.header) for feature in features] == stamps
    assert np.isfinite(features_of(features[-1])).all()
    assert set(np.unique(mask_of(masks[-1]))) <= {0, 2, 8, 10, 13}
    assert len(np.unique(mask_of(masks[-1]))) >= 3


def test_compressed_images_are_taken_too(tiny: Bundle, listener: Listener) -> None:
    def jpeg(picture: np.ndarray, stamp: int) -> CompressedImage:
        data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].reshape(-1)
        header = header_message(ros_types(), stamp, "camera")
        return CompressedImage(header=header, format="jpeg", data=ros_types().array(data))

    forecasts = listener.listen(Forecast, "forecast")
    publisher = listener.publisher(CompressedImage)
    with running_node(namespace(listener), bundle=tiny.path, image_transport="compressed"):
        assert listener.wait(lambda: publisher.get_subscription_count() > 0, READY)
        assert send_until(listener, publisher, lambda: len(forecasts) >= 4, jpeg)
        assert {message.spacing.nanosec for message in forecasts} == {200_000_000}


def test_bad_frames_are_told_and_the_node_goes_on(tiny: Bundle, listener: Listener) -> None:
    def truncated(picture: np.ndarray, stamp: int) -> Image:
        message = image(picture, stamp)
        message.data = message.data[:1000]
        return message

    def unknown(picture: np.ndarray, stamp: int) -> Image:
        return image(picture, stamp, encoding="32FC1")

    forecasts = listener.listen(Forecast, "forecast")
    publisher = listener.publisher(Image)
    with running_node(namespace(listener), bundle=tiny.path) as process:
        assert listener.wait(lambda: publisher.get_subscription_count() > 0, READY)
        for make, expected in ((truncated, "its data has 1000"), (unknown, "'32FC1' is not known")):
            assert send_until(listener, publisher, lambda text=expected: text in listener.message, make)  # type: ignore[misc]
            assert listener.level == ERROR
            assert expected in listener.status["last error"]
        assert int(listener.status["frames undecodable"]) >= 2
        assert not forecasts
        assert send_until(listener, publisher, lambda: len(forecasts) >= 4, start=2 * 10**18)
        assert process.poll() is None


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"bundle": "/nowhere/at/all"}, "/nowhere/at/all: there is no such folder"),
        ({"bundle": ""}, "the parameter 'bundle' is empty"),
        ({"engine": "abacus"}, "there is no engine 'abacus'"),
        ({"image_transport": "pigeon"}, "image_transport 'pigeon'"),
        ({"fit": "squeeze"}, "there is no fit 'squeeze'"),
    ],
)
def test_what_cannot_start_is_said_in_diagnostics(
    tiny: Bundle, listener: Listener, parameters: dict[str, str], expected: str
) -> None:
    values = {"bundle": tiny.path, **parameters}
    with running_node(namespace(listener), **{name: value or "''" for name, value in values.items()}) as process:
        assert listener.wait(lambda: expected in listener.message, READY), listener.message
        assert listener.level == ERROR
        assert process.poll() is None


def test_a_damaged_bundle_is_refused_by_name(tiny: Bundle, listener: Listener, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(tiny.path, tmp_path / "copy"))
    data = bytearray((copy / "forecast.onnx").read_bytes())
    data[100] ^= 1
    (copy / "forecast.onnx").write_bytes(data)
    with running_node(namespace(listener), bundle=copy):
        assert listener.wait(lambda: "forecast.onnx: wrong sha256" in listener.message, READY), listener.message


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_node_that_is_still_loading(tiny: Bundle, listener: Listener, which: signal.Signals) -> None:
    with running_node(namespace(listener), bundle=tiny.path) as process:
        # The node is on the graph as soon as it exists, and loads from then on.
        assert listener.wait(lambda: "re2pix_node" in listener.node.get_node_names(), READY)
        asked = time.monotonic()
        process.send_signal(which)
        assert process.wait(5) == 0
        assert time.monotonic() - asked < 2
        assert "Traceback" not in process.communicate()[1]


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(tiny: Bundle, listener: Listener, which: signal.Signals) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    publisher = listener.publisher(Image)
    with running_node(namespace(listener), bundle=tiny.path) as process:
        assert listener.wait(lambda: publisher.get_subscription_count() > 0, READY)
        assert send_until(listener, publisher, lambda: bool(forecasts))
        asked = time.monotonic()
        process.send_signal(which)
        assert process.wait(5) == 0
        assert time.monotonic() - asked < 2
        assert "Traceback" not in process.communicate()[1]
