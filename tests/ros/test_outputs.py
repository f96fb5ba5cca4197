"""Outputs besides forecasts and masks: calibration, preview, label names, live skill; and outputs that are not made."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from re2pix_msgs.msg import Forecast
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from re2pix_node.bundle.reader import Bundle
from re2pix_node.pipeline.messages import stamp_of
from re2pix_node.ros import label_info
from tests.support.ros_node import READY, Listener, image, listener, ros, running_node
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest

__all__ = ["listener", "ros"]  # fixtures


def test_calibration_and_preview_go_with_the_forecast(tiny: Bundle, listener: Listener) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    infos = listener.listen(CameraInfo, "camera_info")
    previews = listener.listen(CompressedImage, "preview/compressed")
    publisher = listener.publisher()
    calibration = listener.node.create_publisher(CameraInfo, f"{listener.name}/input/camera_info", 1)
    info = CameraInfo(width=256, height=128, distortion_model="plumb_bob", d=[0.1, 0.0, 0.0, 0.0, 0.0])
    info.k = np.array([200, 0, 127.5, 0, 200, 63.5, 0, 0, 1], float)
    info.p = np.array([200, 0, 127.5, 0, 0, 200, 63.5, 0, 0, 0, 1, 0], float)
    with running_node(listener.namespace, bundle=tiny.path, preview_rate=60):
        listener.wait_active(publisher)

        def frame(picture: np.ndarray, stamp: int) -> Image:
            # With every frame, as cameras do: what is sent once is lost if the node has not yet met its publisher.
            calibration.publish(info)
            return image(picture, stamp)

        assert listener.send_until(publisher, lambda: len(infos) >= 3 and len(previews) >= 3, frame)
    stamps = {stamp_of(message.header) for message in forecasts}
    labels = tiny.manifest.labels
    assert (infos[-1].width, infos[-1].height) == (labels.width, labels.height) == (128, 64)
    # The centre of the image stays the centre; its focal length halves with the size.
    assert infos[-1].k == pytest.approx([100, 0, 63.5, 0, 100, 31.5, 0, 0, 1])
    assert list(infos[-1].d) == list(info.d)
    assert stamp_of(infos[-1].header) in stamps
    assert stamp_of(previews[-1].header) in stamps
    picture = cv2.imdecode(np.frombuffer(previews[-1].data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > 200
    assert picture.std() > 20


def test_only_what_is_asked_for_has_a_topic(tiny: Bundle, listener: Listener) -> None:
    listener.listen(Forecast, "forecast")
    with running_node(listener.namespace, bundle=tiny.path, horizons="[0, 2]", outputs="[segmentation, confidence]"):
        assert listener.wait(lambda: listener.status.get("state") == "active", READY)
        expected = {"forecast", *(f"h{k}/{kind}" for k in (0, 2) for kind in ("segmentation", "confidence"))}

        def topics() -> set[str]:
            names = (name for name, _ in listener.node.get_topic_names_and_types())
            prefix = f"{listener.name}/output/"
            return {name.removeprefix(prefix) for name in names if name.startswith(prefix)} - {"label_info"}

        assert listener.wait(lambda: topics() == expected, READY), topics()


def test_an_output_from_outside_is_one_row(listener: Listener, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "warm", tiny_manifest(warmth=True))
    forecasts = listener.listen(Forecast, "forecast")
    images = listener.listen(Image, "h1/warmth")
    publisher = listener.publisher()
    with running_node(listener.namespace, module="tests.support.warmth", bundle=bundle.path):
        listener.wait_active(publisher)
        assert listener.send_until(publisher, lambda: len(images) >= 3), listener.message
    assert (images[-1].encoding, images[-1].height, images[-1].width) == ("32FC1", 16, 32)
    assert np.isfinite(np.frombuffer(images[-1].data, np.float32)).all()
    told = {stamp_of(message.header): message.outputs for message in forecasts}
    assert told[stamp_of(images[-1].header)] == ["h1/warmth"]


def test_live_skill_reaches_planners_and_diagnostics(tiny: Bundle, listener: Listener) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    publisher = listener.publisher()
    with running_node(listener.namespace, bundle=tiny.path):
        listener.wait_active(publisher)
        assert listener.send_until(publisher, lambda: bool(forecasts and np.isfinite(forecasts[-1].skill[1:]).all()))
        assert np.isnan(forecasts[0].skill).all()
        assert np.isnan(forecasts[-1].skill[0])
        told = forecasts[-1].skill[1:]
        assert all(-1 <= value <= 1 for value in told)
        assert listener.wait(lambda: listener.status.get("skill h1", "nan") != "nan", READY)
        # Diagnostics are a frame ahead: a forecast goes out before its own frame is scored.
        assert float(listener.status["skill h1"]) == pytest.approx(told[0], abs=0.3)


def test_skill_below_zero_is_a_warning(tiny: Bundle, listener: Listener) -> None:
    publisher = listener.publisher()
    rng = np.random.default_rng(0)

    def noise(_: np.ndarray, stamp: int) -> Image:
        from tests.support.ros_node import image

        # Nothing can be forecast of this, and the tiny bundle continues every change: worse than copying.
        return image(rng.integers(0, 256, (128, 256, 3), np.uint8), stamp)

    with running_node(listener.namespace, bundle=tiny.path):
        listener.wait_active(publisher)
        warned = "worse than assuming that nothing changes"
        assert listener.send_until(publisher, lambda: warned in listener.message, noise), listener.message
        assert listener.level == b"\x01"


@pytest.mark.skipif(not label_info.available(), reason="vision_msgs, which comes with a ROS distribution, is not here")
def test_label_names_are_there_for_those_who_come_later(tiny: Bundle, listener: Listener) -> None:
    from vision_msgs.msg import LabelInfo

    with running_node(listener.namespace, bundle=tiny.path):
        assert listener.wait(lambda: listener.status.get("state") == "active", READY)
        received: list = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        listener.node.create_subscription(LabelInfo, f"{listener.name}/output/label_info", received.append, latched)
        assert listener.wait(lambda: bool(received), READY)
        names = {entry.class_id: entry.class_name for entry in received[0].class_map}
        assert names[13] == "car"
        assert names[255] == "unlabelled"
