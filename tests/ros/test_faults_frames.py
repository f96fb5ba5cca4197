"""Faulty frames: the node reports them, continues with the next good one, and never forecasts from a bad one."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from re2pix_node.bundle.reader import Bundle
from re2pix_node.pipeline.messages import header_message
from re2pix_node.ros.message_types import ros_types
from tests.support import faulty_bundle
from tests.support.faulty_camera import FaultyCamera, context_of, filming
from tests.support.ros_node import ERROR, READY, WARN, image, ros

__all__ = ["ros"]  # fixture


@pytest.fixture(scope="module")
def camera(ros: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyCamera]:
    bundle = faulty_bundle.make_faulty_bundle(tmp_path_factory.mktemp("faulty") / "bundle")
    with filming(bundle.path, precision="fp32", threads=2) as camera:
        yield camera


def truncated(picture: np.ndarray, stamp: int) -> Image:
    message = image(picture, stamp)
    message.data = message.data[:1000]
    return message


def unknown(picture: np.ndarray, stamp: int) -> Image:
    return image(picture, stamp, "sepia7")


def empty(picture: np.ndarray, stamp: int) -> Image:
    return image(picture[:0], stamp)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (truncated, "needs 98304 bytes, but its data has 1000: it was truncated"),
        (unknown, "image encoding 'sepia7' is not known: publish one of rgb8"),
        (empty, "rgb8 image of 256 x 0 pixels is empty: check the camera driver"),
    ],
)
def test_frames_that_cannot_be_decoded(camera: FaultyCamera, make, expected: str) -> None:
    camera.spoil("frames undecodable", make=make)
    assert expected in camera.listener.status["last error"]
    # Single bad frames among good ones are a warning; nothing but bad ones an error.
    assert camera.forecast_again()
    assert camera.send_until(
        lambda: camera.listener.level == ERROR and expected in camera.listener.message, make=make, good=False
    )
    camera.check()
    assert camera.send_until(lambda: expected not in camera.listener.message)
    assert camera.listener.level != ERROR


def test_every_kind_of_fault_is_logged_however_soon_it_follows_another(camera: FaultyCamera) -> None:
    camera.send(make=truncated, good=False)
    camera.spoil("errors", fault=faulty_bundle.ENCODER_NAN)
    assert camera.listener.wait(lambda: any("NaN or infinity" in line for line in camera.log), READY)
    assert any("truncated" in line for line in camera.log)


@pytest.mark.parametrize(
    ("fault", "who"),
    [
        ("ENCODER_NAN", "the encoder"),
        ("ENCODER_INF", "the encoder"),
        ("FORECASTER_NAN", "the forecaster"),
        ("FORECASTER_INF", "the forecaster"),
    ],
)
def test_features_that_are_not_finite_are_never_published(camera: FaultyCamera, fault: str, who: str) -> None:
    expected = f"{who} gave features with NaN or infinity: nothing is forecast from this frame"
    before, spoilt = camera.listener.count("errors"), set()
    while camera.listener.count("errors") < before + 3 or (camera.listener.level, camera.listener.message) != (
        WARN,
        expected,
    ):
        assert len(spoilt) < 200, (camera.listener.level, camera.listener.message)
        spoilt.add(camera.stamp)
        # What the forecaster spoils is encoded well, and may be in the context of later frames.
        camera.send(fault=getattr(faulty_bundle, fault), good=fault.startswith("FORECASTER"))
        for _ in range(9):
            camera.send()
    assert camera.listener.count("engine restarts") == 0
    assert camera.forecast_again()
    assert not spoilt & {context_of(message)[-1] for message in camera.forecasts}
    camera.check()


def test_a_size_that_changes_in_mid_stream_starts_contexts_anew(camera: FaultyCamera) -> None:
    def larger(picture: np.ndarray, stamp: int) -> Image:
        return image(cv2.resize(picture, (640, 320)), stamp)

    assert camera.forecast_again()
    changed = camera.stamp
    camera.make = larger
    assert camera.forecast_again()
    assert camera.listener.wait(lambda: "frames change from 256x128 rgb8 to 640x320 rgb8" in camera.log, READY)
    back = camera.stamp
    camera.make = image
    assert camera.forecast_again()
    for message in camera.forecasts:
        context = context_of(message)
        assert not context[0] < changed <= context[-1]
        assert not context[0] < back <= context[-1]
        assert message.region.image_width == (640 if changed <= context[-1] < back else 256)
    camera.check()


def test_an_encoding_that_changes_in_mid_stream_changes_nothing_else(camera: FaultyCamera) -> None:
    def reversed_colours(picture: np.ndarray, stamp: int) -> Image:
        return image(np.ascontiguousarray(picture[:, :, ::-1]), stamp, "bgr8")

    def spanned() -> bool:
        return any(context[0] < changed <= context[-1] for context in map(context_of, camera.forecasts))

    # A context may span the change, if no frame was lost just there.
    for _ in range(10):
        camera.make = image
        assert camera.forecast_again()
        changed = camera.stamp
        camera.make = reversed_colours
        assert camera.forecast_again(6)
        if spanned():
            break
    camera.make = image
    assert spanned()
    assert camera.listener.wait(lambda: "frames change from 256x128 rgb8 to 256x128 bgr8" in camera.log, READY)
    camera.check()


def test_a_broken_jpeg(tiny: Bundle, ros: None) -> None:
    def jpeg(picture: np.ndarray, stamp: int) -> CompressedImage:
        data = cv2.imencode(".jpg", picture[:, :, ::-1])[1].reshape(-1)
        header = header_message(ros_types(), stamp, "camera")
        return CompressedImage(header=header, format="jpeg", data=ros_types().array(data))

    def cut(picture: np.ndarray, stamp: int) -> CompressedImage:
        message = jpeg(picture, stamp)
        message.data = message.data[:-200]
        return message

    def noise(picture: np.ndarray, stamp: int) -> CompressedImage:
        message = jpeg(picture, stamp)
        message.data = ros_types().array(np.arange(200, dtype=np.uint8))
        return message

    with filming(tiny.path, kind=CompressedImage, make=jpeg, image_transport="compressed") as camera:
        camera.spoil("frames undecodable", make=cut)
        assert "no end marker: it was truncated on its way" in camera.listener.status["last error"]
        camera.spoil("frames undecodable", make=noise)
        assert "which is neither JPEG nor PNG" in camera.listener.status["last error"]
        assert camera.forecast_again()
        camera.check()
