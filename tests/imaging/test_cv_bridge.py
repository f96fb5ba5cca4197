"""If cv_bridge is installed, it and our path must give the same pixels; if it is broken, our path is used."""

import array
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sensor_msgs.msg

from re2pix_node.imaging import decode as images
from tests.imaging.test_decode import (
    random_message,
)


@pytest.mark.parametrize("encoding", sorted(images._CV_BRIDGE_ENCODINGS))
@pytest.mark.parametrize("height", [30, 31])
def test_cv_bridge_gives_the_same_pixels(encoding, height):
    bridge = images._cv_bridge()
    if bridge is None:
        pytest.skip("cv_bridge is not importable here: it comes with a ROS distribution, not from PyPI")
    plain = random_message(encoding, height, 34)
    message = sensor_msgs.msg.Image(encoding=encoding, height=height, width=34, step=plain.step)
    message.data = array.array("B", plain.data.tobytes())
    ours = images._by_opencv(message, images._LAYOUTS[encoding], plain.data)
    assert np.array_equal(images._by_cv_bridge(bridge, message), ours)


@pytest.mark.parametrize(
    ("encoding", "changes", "suits"),
    [
        ("bgr8", {}, True),
        ("bgr8", {"step": 27, "data": bytes(6 * 27)}, False),
        ("bgr8", {"step": 25, "data": bytes(6 * 25)}, False),
        ("mono16", {"is_bigendian": 1}, False),
        ("uyvy", {}, False),
        ("nv12", {}, False),
        ("rgb8", {}, False),
    ],
)
def test_cv_bridge_is_given_only_what_it_reads_rightly(encoding, changes, suits):
    message = random_message(encoding, 6, 8)
    vars(message).update(changes)
    assert images._suits_cv_bridge(message, images._LAYOUTS[encoding], len(message.data)) == suits


INSTALLATIONS = {
    "fails at import": ("raise SystemError('built for another NumPy')", "own"),
    "fails at the first conversion": (
        "class CvBridge:\n    def imgmsg_to_cv2(self, message, encoding): raise ImportError('no binary module')",
        "own",
    ),
    "ends the process": (
        "import os\nclass CvBridge:\n    def imgmsg_to_cv2(self, message, encoding): os.abort()",
        "own",
    ),
    "refuses the picture": (
        "class CvBridge:\n    def imgmsg_to_cv2(self, message, encoding):\n"
        "        if message.width > 1: raise RuntimeError('no')",
        "ImageError: bgr8 image of 2 x 1 pixels: cv_bridge cannot convert it: no",
    ),
}
DECODE_ONE = """
from types import SimpleNamespace
from re2pix_node.imaging.decode import decode
message = SimpleNamespace(encoding="bgr8", height=1, width=2, step=6, is_bigendian=0, data=bytes(range(6)))
assert decode(message).tolist() == [[[2, 1, 0], [5, 4, 3]]]
print("own")
"""


@pytest.mark.skipif(np.__version__ < "2", reason="under NumPy 1 cv_bridge is not tried in a process of its own")
@pytest.mark.parametrize(("module", "outcome"), INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_a_broken_cv_bridge_is_as_good_as_none(module, outcome, tmp_path):
    (tmp_path / "cv_bridge.py").write_text(module)
    path = os.pathsep.join([str(tmp_path), str(Path(images.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", DECODE_ONE], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    last_line = (run.stdout + run.stderr).strip().splitlines()[-1]
    assert last_line.removeprefix("re2pix_node.errors.") == outcome
