"""NumPy to messages and back: rclpy's and rosbags' messages carry the same bytes."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from re2pix_msgs.msg import FeatureMap
from re2pix_msgs.msg import Forecast as ForecastMessage
from sensor_msgs.msg import Image

from re2pix_node.bundle.reader import Bundle
from re2pix_node.imaging.decode import decode_image
from re2pix_node.imaging.geometry import Region
from re2pix_node.pipeline.messages import (
    Circumstances,
    duration_message,
    features_of,
    forecast_message,
    header_message,
    image_message,
    mask_of,
    stamp_of,
    time_message,
)
from re2pix_node.pipeline.outputs import output_messages, output_names
from re2pix_node.pipeline.pipeline import Forecast
from re2pix_node.recordings.message_types import bag_types
from re2pix_node.recordings.writer import message_types
from re2pix_node.ros.message_types import ros_types

STAMP = 1_700_000_123_456_789_012
SPACING = 176_470_588


@pytest.fixture
def forecast(tiny: Bundle) -> Forecast:
    rng = np.random.default_rng(1)
    masks = (1, 4, 64, 128)
    return Forecast(
        stamp=STAMP,
        context_stamps=tuple(STAMP - i * SPACING for i in (3, 2, 1, 0)),
        spacing=SPACING,
        horizons=tuple(k * SPACING for k in range(4)),
        observed=rng.normal(0, 3, (16, 32, 16)).astype(np.float32),
        features=rng.normal(0, 3, (1, 3, 16, 32, 16)).astype(np.float32),
        labels=rng.choice([0, 2, 8, 10, 13], masks).astype(np.uint8),
        confidence=rng.integers(0, 256, masks).astype(np.uint8),
        region=Region(1280, 720, 0, 40, 1280, 640),
    )


MADE = Circumstances("openvino bf16", "camera_front", age=12_000_000, processing_time=7_000_001, frames_dropped=3)


def test_rosbags_messages_say_the_same_as_ros_messages(tiny: Bundle, forecast: Forecast) -> None:
    names = output_names(tiny)
    store = message_types()

    def as_ros_reads_it(bag_message, kind: type) -> str:
        cdr = bytes(store.serialize_cdr(bag_message, f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"))
        return repr(deserialize_message(cdr, kind))

    # Compared as text: a NaN does not equal itself, and rclpy leaves the padding bytes of its CDR to chance.
    ros = forecast_message(ros_types(), tiny, forecast, names, MADE)
    bag = forecast_message(bag_types(), tiny, forecast, names, MADE)
    assert as_ros_reads_it(bag, ForecastMessage) == repr(ros)
    outputs = zip(
        output_messages(ros_types(), tiny, forecast, names, "camera"),
        output_messages(bag_types(), tiny, forecast, names, "camera"),
        strict=True,
    )
    for (name, ros_output), (_, bag_output) in outputs:
        assert as_ros_reads_it(bag_output, type(ros_output)) == repr(ros_output), name


def test_a_forecast_says_what_it_speaks_of(tiny: Bundle, forecast: Forecast) -> None:
    sent = forecast_message(ros_types(), tiny, forecast, ["h1/features"], MADE)
    message = deserialize_message(serialize_message(sent), ForecastMessage)
    assert stamp_of(message.header) == STAMP
    assert message.header.frame_id == "camera_front"
    assert [s.sec * 10**9 + s.nanosec for s in message.context_stamps] == list(forecast.context_stamps)
    assert [s.sec * 10**9 + s.nanosec for s in message.predicted_stamps] == [STAMP + k * SPACING for k in range(4)]
    assert [h.sec * 10**9 + h.nanosec for h in message.horizons] == [k * SPACING for k in range(4)]
    assert message.spacing.nanosec == SPACING
    assert (message.bundle, message.bundle_version, message.basis) == ("tiny", "1", tiny.basis)
    assert (message.mask_height, message.mask_width) == (64, 128)
    assert (message.region.image_width, message.region.y, message.region.height) == (1280, 40.0, 640.0)
    assert list(message.class_ids) == [0, 2, 8, 10, 13]
    assert message.class_names == ["road", "building", "vegetation", "sky", "car"]
    assert message.class_moving == [False] * 4 + [True]
    assert message.outputs == ["h1/features"]
    assert np.isnan(message.skill).all()
    assert len(message.skill) == 4
    assert (message.age.nanosec, message.processing_time.nanosec, message.frames_dropped) == (12_000_000, 7_000_001, 3)


def test_masks_come_back_as_they_went(tiny: Bundle, forecast: Forecast) -> None:
    names = output_names(tiny, ["segmentation", "confidence"])
    assert names[0] == "h0/segmentation"
    assert len(names) == 8
    for name, sent in output_messages(ros_types(), tiny, forecast, names, "camera"):
        message = deserialize_message(serialize_message(sent), Image)
        masks = forecast.labels if name.endswith("segmentation") else forecast.confidence
        np.testing.assert_array_equal(mask_of(message), masks[0, int(name[1])])
        assert (message.encoding, stamp_of(message.header)) == ("mono8", STAMP)


def test_features_come_back_in_half_precision(tiny: Bundle, forecast: Forecast) -> None:
    for name, sent in output_messages(ros_types(), tiny, forecast, output_names(tiny, ["features"]), "camera"):
        message = deserialize_message(serialize_message(sent), FeatureMap)
        k = int(name[1])
        expected = forecast.observed if k == 0 else forecast.features[0, k - 1]
        np.testing.assert_allclose(features_of(message), expected, rtol=1e-3, atol=1e-4)
        assert message.predicted_stamp.sec * 10**9 + message.predicted_stamp.nanosec == STAMP + k * SPACING
        assert stamp_of(message.header) == STAMP
        assert (message.dtype, message.sample, message.samples, message.basis) == ("float16", 0, 1, tiny.basis)
        assert len(message.data) == 16 * 32 * 16 * 2


def test_features_of_either_byte_order_are_read() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for order in "<>":
        message = FeatureMap(height=2, width=3, channels=4, is_bigendian=order == ">")
        message.data = values.astype(f"{order}f2").tobytes()
        np.testing.assert_array_equal(features_of(message), values)


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 10**9, STAMP])
def test_stamps_survive(ns: int) -> None:
    for types in (ros_types(), bag_types()):
        assert stamp_of(header_message(types, ns, "x")) == ns
        assert time_message(types, ns).nanosec == ns % 10**9


def test_a_negative_age_is_a_valid_duration() -> None:
    # A camera whose clock runs ahead of the node's: seconds are floored and nanoseconds stay positive.
    message = duration_message(ros_types(), -1)
    assert (message.sec, message.nanosec) == (-1, 999_999_999)


@pytest.mark.parametrize("types", [ros_types, bag_types])
def test_a_picture_is_an_image_as_everybody_reads_it(types) -> None:
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    message = image_message(types(), picture, header_message(types(), STAMP, "camera"))
    np.testing.assert_array_equal(decode_image(message), picture)
    assert (message.encoding, message.step, stamp_of(message.header)) == ("rgb8", 18, STAMP)


def test_a_padded_mask_is_read_without_its_padding() -> None:
    rows = np.arange(12, dtype=np.uint8).reshape(2, 6)
    message = Image(height=2, width=4, step=6, encoding="mono8", data=rows.tobytes())
    np.testing.assert_array_equal(mask_of(message), rows[:, :4])
