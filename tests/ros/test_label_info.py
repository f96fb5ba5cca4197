"""The classes in vision_msgs/LabelInfo; needs vision_msgs, which comes with a ROS distribution."""

import sys

import pytest

from re2pix_node.bundle.manifest import LabelClass, LabelSpec
from re2pix_node.ros.label_info import available, label_info_message

LABELS = LabelSpec(2, 4, (LabelClass(0, "road", (1, 2, 3)), LabelClass(13, "car", (4, 5, 6), moving=True)))


def test_whether_it_is_available_is_what_python_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import vision_msgs.msg  # noqa: F401
    except ImportError:
        assert not available()
    else:
        assert available()
        monkeypatch.delitem(sys.modules, "vision_msgs")
        monkeypatch.setattr(sys, "path", [])
        assert not available()


def test_every_class_and_the_unlabelled_are_told() -> None:
    pytest.importorskip("vision_msgs.msg", reason="vision_msgs comes with a ROS distribution: ros-DISTRO-vision-msgs")
    from vision_msgs.msg import LabelInfo

    message = label_info_message(LABELS, 3_000_000_007, "camera")
    assert isinstance(message, LabelInfo)
    assert [(c.class_id, c.class_name) for c in message.class_map] == [(0, "road"), (13, "car"), (255, "unlabelled")]
    assert message.threshold == 0.0
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (3, 7)
    assert message.header.frame_id == "camera"
