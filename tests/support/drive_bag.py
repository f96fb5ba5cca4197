"""The made-up drive as a rosbag2, as a camera driver would have recorded it."""

from pathlib import Path

import cv2
import numpy as np

from re2pix_node.pipeline.messages import header_message
from re2pix_node.recordings.message_types import bag_types
from re2pix_node.recordings.writer import BagWriter, message_types
from tests.support import drive

START = 1_700_000_000 * 1_000_000_000


def make_drive_bag(
    path: Path, seconds: float = 3.0, rate: float = 30.0, width: int = 640, height: int = 360, start: int = START
) -> list[int]:
    """Writes /camera/image/compressed; gives the stamps."""
    types = message_types().types
    stamps = [start + round(i * 1e9 / rate) for i in range(int(seconds * rate))]
    with BagWriter(path) as bag:
        for stamp in stamps:
            picture = drive.frame((stamp - start) / 1e9, width, height)
            jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
            header = header_message(bag_types(), stamp, "camera")
            image = types["sensor_msgs/msg/CompressedImage"](
                header=header, format="jpeg", data=np.asarray(jpeg, np.uint8)
            )
            bag.write("/camera/image/compressed", image, stamp)
    return stamps
