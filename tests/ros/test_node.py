"""The real node as a process, over real DDS: forecasts, and ways to start and end."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from re2pix_msgs.msg import FeatureMap, Forecast
from sensor_msgs.msg import CompressedImage, Image

from re2pix_node.bundle.reader import Bundle
from re2pix_node.pipeline.messages import features_of, header_message, mask_of, stamp_of
from re2pix_node.ros.message_types import ros_types
from tests.support.ros_node import ERROR, READY, Listener, listener, ros, running_node, start, start_module

__all__ = ["listener", "ros"]  # fixtures


@dataclass
class Filmed:
    """The frames that a camera process sent, the node's counts, and the received forecasts."""

    sent: list[int]
    status: dict[str, str]
    forecasts: list[Forecast]
    masks: list[Image]
    features: list[FeatureMap]

    def count(self, what: str) -> int:
        return int(self.status[what])

    def worked(self) -> float:
        """Seconds that the worker needed for what it did."""
        before, after = (
            sum(float(self.status[f"{stage} p50 (ms)"]) for stage in stages)
            for stages in (("decode", "fit", "encode"), ("forecast", "publish"))
        )
        encoded = self.count("frames received") - self.count("frames skipped") - self.count("frames overtaken")
        return (encoded * before + self.count("forecasts published") * after) / 1e3


def film(tiny: Bundle, listener: Listener, rate: int) -> Filmed:
    """Five seconds of a 720p camera."""
    forecasts = listener.listen(Forecast, "forecast")
    masks = listener.listen(Image, "h2/segmentation")
    features = listener.listen(FeatureMap, "h3/features")
    with running_node(listener.namespace, bundle=tiny.path, threads=1):
        assert listener.wait(lambda: listener.status.get("state") == "active", READY), listener.message
        words = [f"{listener.name}/input/image", "--rate", rate, "--frames", 5 * rate]
        camera = start_module("tests.support.camera", *words)
        assert listener.wait(lambda: camera.poll() is not None, 60)
        sent = json.loads(camera.communicate()[0])
        assert camera.returncode == 0
        listener.wait_settled()
    return Filmed(sent, listener.status, forecasts, masks, features)


@pytest.mark.long
@pytest.mark.alone
def test_of_a_camera_at_30_hz_nothing_is_lost_and_next_to_nothing_overtaken(tiny: Bundle, listener: Listener) -> None:
    filmed = film(tiny, listener, 30)
    # Best effort, but over shared memory: without config/fastdds.xml 98% are lost.
    assert filmed.count("frames received") == len(filmed.sent)
    assert filmed.count("frames overtaken") <= 0.05 * len(filmed.sent)
    assert filmed.count("frames without context") <= 0.2 * len(filmed.sent)
    assert len(filmed.forecasts) == filmed.count("forecasts published")
    # It forecasts from nearly all of them, or it has no time to: from every second one, of 33 ms each.
    seconds = (filmed.sent[-1] - filmed.sent[0]) / 1e9
    assert len(filmed.forecasts) >= 0.8 * len(filmed.sent) or filmed.worked() >= 0.35 * seconds, filmed.status


def test_forecasts_of_a_720p_camera_in_another_process(tiny: Bundle, listener: Listener) -> None:
    filmed = film(tiny, listener, 10)
    sent, forecasts, masks, features = filmed.sent, filmed.forecasts, filmed.masks, filmed.features
    # A busy machine overtakes frames, which is for the test above; they arrive, since half a second is queued.
    assert filmed.count("frames received") >= 0.9 * len(sent)
    without = ("frames overtaken", "frames skipped", "forecasts skipped", "frames without context")
    ended = sum(filmed.count(what) for what in without)
    assert filmed.count("forecasts published") == filmed.count("frames received") - ended
    assert len(forecasts) >= 0.9 * filmed.count("forecasts published") > 0
    stamps = [stamp_of(message.header) for message in forecasts]
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
    for messages in (masks, features):
        assert {stamp_of(message.header) for message in messages} <= set(sent)
        assert len(messages) >= 0.9 * filmed.count("forecasts published")
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
    with running_node(listener.namespace, bundle=tiny.path, image_transport="compressed"):
        listener.wait_active(publisher)
        assert listener.send_until(publisher, lambda: len(forecasts) >= 4, jpeg)
        assert {message.spacing.nanosec for message in forecasts} == {200_000_000}


def test_what_cannot_start_is_said_in_diagnostics_until_it_is_mended(tiny: Bundle, listener: Listener) -> None:
    with running_node(listener.namespace, bundle="/nowhere/at/all") as process:

        def is_said(expected: str) -> bool:
            return listener.wait(lambda: expected in listener.message and listener.level == ERROR, READY)

        assert is_said("/nowhere/at/all: there is no such folder"), listener.message
        for values, expected in (
            ({"bundle": str(tiny.path), "precision": "bf16", "engine": "onnxruntime"}, "does not offer it, only fp32"),
            ({"precision": "auto", "horizons": [1, 7]}, "horizons names h7, but tiny has h0 to h3"),
        ):
            assert all(listener.set(*value).successful for value in values.items())
            assert not listener.change("configure")
            assert is_said(expected), listener.message
        assert listener.set("horizons", [1, 3]).successful
        assert listener.change("configure")
        assert process.poll() is None


def test_a_qos_override_that_makes_no_sense_is_said_in_diagnostics(tiny: Bundle, listener: Listener) -> None:
    override = {f"qos_overrides.{listener.name}/input/image.subscription.reliability": "perhaps"}
    with running_node(listener.namespace, bundle=tiny.path, **override) as process:
        assert listener.wait(lambda: "`perhaps`" in listener.message and listener.level == ERROR, READY)
        assert process.poll() is None


def test_a_damaged_bundle_is_refused_by_name(tiny: Bundle, listener: Listener, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(tiny.path, tmp_path / "copy"))
    data = bytearray((copy / "forecast.onnx").read_bytes())
    data[100] ^= 1
    (copy / "forecast.onnx").write_bytes(data)
    with running_node(listener.namespace, bundle=copy):
        assert listener.wait(lambda: "forecast.onnx: wrong sha256" in listener.message, READY), listener.message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-p", "engine:=abacus"], "engine"),  # refused by us: all values are in test_declared.py
        (["-p", "nonsense"], "nonsense"),  # and by ROS
    ],
)
def test_a_bad_value_at_start_is_one_line_and_exit_code_2(arguments: list[str], expected: str) -> None:
    done = start("-m", "re2pix_node.ros.node", "--ros-args", *arguments)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 2
    told = [line for line in said.splitlines() if not line.startswith("[ERROR]")]  # which rcl itself may write
    assert len(told) == 1
    assert told[0].startswith("re2pix_node: ")
    assert expected in told[0]
