"""Writes a simulated drive as a rosbag2: the camera's pictures, their exact labels, and all poses."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from re2pix_node.pipeline.messages import header_message
from re2pix_node.recordings.message_types import bag_types
from re2pix_node.recordings.writer import BagWriter, message_types
from re2pix_node.simulator.cast import PART
from re2pix_node.simulator.drive import Drive, Moment
from re2pix_node.simulator.mesh import Array
from re2pix_node.simulator.renderer import Lens

# The clock of every drive starts here (2023-11-14), in nanoseconds.
EPOCH = 1_700_000_000 * 1_000_000_000
MAP, CAMERA = "map", "camera"
TOPICS = {
    "camera": "/camera/image/compressed",
    "camera_info": "/camera/camera_info",
    "segmentation": "/ground_truth/segmentation",
    "instances": "/ground_truth/instances",
    "depth": "/ground_truth/depth",
    "tf": "/tf",
}


@dataclass(frozen=True)
class RecordingPlan:
    """The settings that all drives of a run share. `topics` are names of TOPICS."""

    seconds: float = 20.0
    rate: float = 17.0
    size: tuple[int, int] = (448, 224)
    quality: int = 90
    topics: tuple[str, ...] = tuple(TOPICS)


def record(
    path: Path, seed: int, plan: RecordingPlan, replace: bool = False, progress: Callable[[], object] = int
) -> int:
    """Simulate the drive of a seed into a rosbag2 folder; return the number of its frames."""
    with BagWriter(path, replace) as bag:  # which refuses a path at once; a drive takes seconds to build
        drive = Drive(seed, plan.seconds, plan.rate, plan.size)
        for index, moment in enumerate(drive.frames()):
            stamp = EPOCH + round(index * 1e9 / plan.rate)
            for topic, message in _messages(moment, drive.lens, plan, stamp):
                bag.write(TOPICS[topic], message, stamp)
            progress()
    return len(drive)


def frame_name(instance: int) -> str:
    """The /tf frame of an instance: an object, or one of its parts."""
    part, number = divmod(instance, PART)
    return f"object_{number}" if part == 0 else f"object_{number}_part_{part}"


def instance_of(frame: str) -> int | None:
    """The instance that a /tf frame belongs to, if any."""
    words = frame.split("_")
    if words[0] != "object":
        return None
    return int(words[1]) + (PART * int(words[3]) if len(words) > 2 else 0)


def _messages(moment: Moment, lens: Lens, plan: RecordingPlan, stamp: int) -> Iterator[tuple[str, Any]]:
    header = header_message(bag_types(), stamp, CAMERA)
    shot = moment.shot
    makers: dict[str, Callable[[], Any]] = {
        "camera": lambda: _jpeg(shot.image, header, plan.quality),
        "camera_info": lambda: _camera_info(lens, header),
        "segmentation": lambda: _image(shot.segmentation, "mono8", header),
        "instances": lambda: _image(shot.instances, "mono16", header),
        "depth": lambda: _image(compressible(shot.depth), "32FC1", header),
        "tf": lambda: _transforms(moment, stamp),
    }
    for topic in plan.topics:
        yield topic, makers[topic]()


def compressible(depth: Array) -> Array:
    """Rounds to 13 significant bits (1 mm at 10 m), which halves the recording."""
    bits = np.ascontiguousarray(depth, np.float32).view(np.uint32)
    rounded = np.where(np.isfinite(depth), (bits + 0x400) & np.uint32(0xFFFFF800), bits)
    return rounded.astype(np.uint32).view(np.float32)


def _jpeg(image: Array, header: Any, quality: int) -> Any:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return message_types().types["sensor_msgs/msg/CompressedImage"](
        header=header, format="jpeg", data=np.asarray(data, np.uint8).ravel()
    )


def _image(pixels: Array, encoding: str, header: Any) -> Any:
    data = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8)
    height, width = pixels.shape
    return message_types().types["sensor_msgs/msg/Image"](
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=width * pixels.itemsize,
        data=data,
    )


def _camera_info(lens: Lens, header: Any) -> Any:
    types = message_types().types
    k = lens.matrix
    region = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return types["sensor_msgs/msg/CameraInfo"](
        header=header,
        height=lens.height,
        width=lens.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.concatenate([k, np.zeros((3, 1))], axis=1).ravel(),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def _transforms(moment: Moment, stamp: int) -> Any:
    types = message_types().types
    header = header_message(bag_types(), stamp, MAP)
    poses = {CAMERA: moment.camera, **{frame_name(i): pose for i, pose in moment.objects.items()}}
    transforms = []
    for child, pose in poses.items():
        x, y, z, w = quaternion(pose[:3, :3])
        transform = types["geometry_msgs/msg/Transform"](
            translation=types["geometry_msgs/msg/Vector3"](
                x=float(pose[0, 3]), y=float(pose[1, 3]), z=float(pose[2, 3])
            ),
            rotation=types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
        )
        transforms.append(
            types["geometry_msgs/msg/TransformStamped"](header=header, child_frame_id=child, transform=transform)
        )
    return types["tf2_msgs/msg/TFMessage"](transforms=transforms)


def quaternion(r: Array) -> tuple[float, float, float, float]:
    """x, y, z, w of a rotation matrix."""
    w, x, y, z = (
        0.5 * math.sqrt(max(0.0, 1 + sx * r[0, 0] + sy * r[1, 1] + sz * r[2, 2]))
        for sx, sy, sz in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    )
    if w > 0.1:
        signs = (r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1])
        return math.copysign(x, signs[0]), math.copysign(y, signs[1]), math.copysign(z, signs[2]), w
    # Near half a turn w is too small to give the signs; the largest of the others gives them.
    if x >= y and x >= z:
        return (
            x,
            math.copysign(y, r[0, 1] + r[1, 0]),
            math.copysign(z, r[0, 2] + r[2, 0]),
            math.copysign(w, r[2, 1] - r[1, 2]),
        )
    if y >= z:
        return (
            math.copysign(x, r[0, 1] + r[1, 0]),
            y,
            math.copysign(z, r[1, 2] + r[2, 1]),
            math.copysign(w, r[0, 2] - r[2, 0]),
        )
    return (
        math.copysign(x, r[0, 2] + r[2, 0]),
        math.copysign(y, r[1, 2] + r[2, 1]),
        z,
        math.copysign(w, r[1, 0] - r[0, 1]),
    )
