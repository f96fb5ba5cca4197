"""The message classes of rosbags, for pipeline/messages.py."""

from functools import cache

from re2pix_node.pipeline.messages import MessageTypes
from re2pix_node.recordings.writer import message_types


@cache
def bag_types() -> MessageTypes:
    """rosbags' classes."""
    types = message_types().types
    return MessageTypes(
        time=types["builtin_interfaces/msg/Time"],
        duration=types["builtin_interfaces/msg/Duration"],
        header=types["std_msgs/msg/Header"],
        image=types["sensor_msgs/msg/Image"],
        region=types["re2pix_msgs/msg/ImageRegion"],
        feature_map=types["re2pix_msgs/msg/FeatureMap"],
        forecast=types["re2pix_msgs/msg/Forecast"],
        array=lambda values: values,
        named=lambda kind: types[kind.replace("/", "/msg/")],
    )
