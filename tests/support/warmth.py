"""A row in the table of outputs from outside the package, and the node and the commands with it.

`python -m tests.support.warmth --ros-args ...` is the node, `python -m tests.support.warmth replay ...` a command.
"""

import sys
from typing import Any

import numpy as np

from re2pix_node import cli
from re2pix_node.bundle.reader import Bundle
from re2pix_node.pipeline.messages import MessageTypes, header_message, pixels_message
from re2pix_node.pipeline.outputs import OutputRow, register
from re2pix_node.pipeline.pipeline import Forecast


def message(types: MessageTypes, _: Bundle, forecast: Forecast, k: int, frame_id: str) -> Any:
    header = header_message(types, forecast.stamp, frame_id)
    return pixels_message(types, forecast.optional["warmth"][0, k], "32FC1", header)


def panel(warmth: np.ndarray) -> np.ndarray:
    grey = np.clip(255 * warmth, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


WARMTH = OutputRow("warmth", "sensor_msgs/Image", "32FC1", "how warm each cell is", message, optional=True, show=panel)

if __name__ == "__main__":
    register(WARMTH)
    if "--ros-args" in sys.argv:
        from re2pix_node.ros.node import main

        sys.exit(main())
    sys.exit(cli.main(sys.argv[1:]))
