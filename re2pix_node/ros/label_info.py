"""The classes of the mask values as a vision_msgs message, if vision_msgs is installed."""

import importlib
import importlib.util
from typing import Any

from re2pix_node.bundle.manifest import UNLABELLED, LabelSpec
from re2pix_node.pipeline.messages import header_message
from re2pix_node.ros.message_types import ros_types


def available() -> bool:
    """Whether vision_msgs, which comes with a ROS distribution and not from PyPI, can be imported."""
    return importlib.util.find_spec("vision_msgs") is not None


def label_info_message(labels: LabelSpec, stamp: int, frame_id: str = "") -> Any:
    """A LabelInfo: the classes of the masks, and last the value of pixels without a label. `stamp` in nanoseconds."""
    msg = importlib.import_module("vision_msgs.msg")
    names = {label.id: label.name for label in labels.classes} | {UNLABELLED: "unlabelled"}
    return msg.LabelInfo(
        header=header_message(ros_types(), stamp, frame_id),
        class_map=[msg.VisionClass(class_id=value, class_name=name) for value, name in names.items()],
        threshold=0.0,  # every pixel gets its most likely class
    )
