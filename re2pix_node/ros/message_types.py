"""The message classes of rclpy, for pipeline/messages.py."""

import array
import importlib
from functools import cache
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from numpy.typing import NDArray
from re2pix_msgs.msg import FeatureMap, Forecast, ImageRegion
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from re2pix_node.pipeline.messages import MessageTypes


@cache
def ros_types() -> MessageTypes:
    """rclpy's classes."""
    return MessageTypes(Time, Duration, Header, Image, ImageRegion, FeatureMap, Forecast, _ros_array, _named)


@cache
def _named(kind: str) -> Any:
    package, name = kind.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def _ros_array(values: NDArray[Any]) -> Any:
    # array.array is the only type that rclpy's setters accept without checking every element.
    if values.dtype == np.bool_:
        return values.tolist()
    filled = array.array({"uint8": "B", "float32": "f"}[values.dtype.name])
    filled.frombytes(np.ascontiguousarray(values).data.cast("B"))
    return filled
