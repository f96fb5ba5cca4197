"""Converts NumPy arrays to messages and back.

The same code fills the messages of rclpy (node) and of rosbags (replay, which works without ROS): both take all fields
by keyword and differ only in the type of an array.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import Bundle
from re2pix_node.imaging.geometry import Region
from re2pix_node.pipeline.pipeline import Forecast


@dataclass(frozen=True)
class MessageTypes:
    """The message classes of one implementation, and its conversion of arrays."""

    time: Any
    duration: Any
    header: Any
    image: Any
    region: Any
    feature_map: Any
    forecast: Any
    array: Callable[[NDArray[Any]], Any]
    named: Callable[[str], Any]  # any class, by its type, as in nav_msgs/OccupancyGrid


@dataclass(frozen=True)
class Circumstances:
    """The fields of a forecast message besides the forecast: how and when it was made."""

    engine: str
    frame_id: str
    age: int = 0  # ns
    processing_time: int = 0  # ns
    frames_dropped: int = 0
    skill: Sequence[float] | None = None


def ns_of(time_or_duration: Any) -> int:
    """A Time or a Duration in nanoseconds."""
    return int(time_or_duration.sec) * NANOSECONDS + int(time_or_duration.nanosec)


def stamp_of(header: Any) -> int:
    """A header's stamp in nanoseconds."""
    return ns_of(header.stamp)


def time_message(types: MessageTypes, ns: int) -> Any:
    return types.time(sec=ns // NANOSECONDS, nanosec=ns % NANOSECONDS)


def duration_message(types: MessageTypes, ns: int) -> Any:
    return types.duration(sec=ns // NANOSECONDS, nanosec=ns % NANOSECONDS)


def header_message(types: MessageTypes, stamp: int, frame_id: str) -> Any:
    return types.header(stamp=time_message(types, stamp), frame_id=frame_id)


def region_message(types: MessageTypes, region: Region) -> Any:
    return types.region(
        image_width=region.image_width,
        image_height=region.image_height,
        x=float(region.x),
        y=float(region.y),
        width=float(region.width),
        height=float(region.height),
    )


def forecast_message(
    types: MessageTypes, bundle: Bundle, forecast: Forecast, outputs: Sequence[str], made: Circumstances
) -> Any:
    manifest = bundle.manifest
    classes = manifest.labels.classes
    skill = made.skill or [float("nan")] * len(forecast.horizons)
    return types.forecast(
        header=header_message(types, forecast.stamp, made.frame_id),
        bundle=manifest.name,
        bundle_version=manifest.version,
        engine=made.engine,
        basis=bundle.basis,
        context_stamps=[time_message(types, stamp) for stamp in forecast.context_stamps],
        spacing=duration_message(types, forecast.spacing),
        horizons=[duration_message(types, horizon) for horizon in forecast.horizons],
        predicted_stamps=[time_message(types, stamp) for stamp in forecast.predicted_stamps],
        mask_height=manifest.labels.height,
        mask_width=manifest.labels.width,
        region=region_message(types, forecast.region),
        class_ids=types.array(np.array([c.id for c in classes], np.uint8)),
        class_names=[c.name for c in classes],
        class_moving=types.array(np.array([c.moving for c in classes], np.bool_)),
        outputs=list(outputs),
        skill=types.array(np.array(skill, np.float32)),
        age=duration_message(types, made.age),
        processing_time=duration_message(types, made.processing_time),
        frames_dropped=made.frames_dropped,
    )


def mask_message(types: MessageTypes, mask: NDArray[Any], header: Any) -> Any:
    return pixels_message(types, mask, "mono8", header)


def image_message(types: MessageTypes, picture: NDArray[np.uint8], header: Any) -> Any:
    """A picture, [height, width, 3] RGB."""
    return pixels_message(types, picture, "rgb8", header)


def pixels_message(types: MessageTypes, pixels: NDArray[Any], encoding: str, header: Any) -> Any:
    """An Image of an array [height, width] or [height, width, channels], with the type of its encoding."""
    height, width = pixels.shape[:2]
    return types.image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // height,
        data=types.array(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)),
    )


def feature_map_message(
    types: MessageTypes, bundle: Bundle, forecast: Forecast, k: int, frame_id: str, sample: int = 0
) -> Any:
    features = forecast.observed if k == 0 else forecast.features[sample, k - 1]
    height, width, channels = features.shape
    return types.feature_map(
        header=header_message(types, forecast.stamp, frame_id),
        horizon=duration_message(types, forecast.horizons[k]),
        predicted_stamp=time_message(types, forecast.predicted_stamps[k]),
        bundle=bundle.manifest.name,
        bundle_version=bundle.manifest.version,
        basis=bundle.basis,
        height=height,
        width=width,
        channels=channels,
        sample=sample,
        samples=forecast.features.shape[0],
        region=region_message(types, forecast.region),
        dtype=types.feature_map.DTYPE_FLOAT16,
        is_bigendian=False,
        data=types.array(np.ascontiguousarray(features, "<f2").reshape(-1).view(np.uint8)),
    )


def features_of(message: Any) -> NDArray[Any]:
    """The grid [height, width, channels] in a FeatureMap."""
    order = ">" if message.is_bigendian else "<"
    values = np.frombuffer(message.data, dtype=f"{order}f2")
    return values.reshape(message.height, message.width, message.channels)


def mask_of(message: Any) -> NDArray[np.uint8]:
    """The mask [height, width] in a mono8 Image."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows[:, : message.width]
