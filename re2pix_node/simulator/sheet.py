"""Shows every modality side by side, and checks the flow by warping.

python -m re2pix_node.simulator.sheet OUT.png DRIVE...
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from re2pix_node.footage.cityscapes_classes import COLOURS
from re2pix_node.pipeline.preview import save_picture
from re2pix_node.simulator.flow import flow_between, warp
from re2pix_node.simulator.mesh import Array
from re2pix_node.simulator.reader import DriveFrame, read_drive

STEP = 3  # frames between a picture and the target of its flow


def depth_picture(depth: Array) -> Array:
    near = np.where(np.isfinite(depth), np.clip(255 * (1 - np.log(depth.clip(1, 150)) / np.log(150)), 0, 255), 0)
    return cv2.cvtColor(cv2.applyColorMap(near.astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)


def instance_picture(instances: Array) -> Array:
    colours = np.random.default_rng(1).integers(60, 255, (256, 3)).astype(np.uint8)
    colours[0] = 0
    picture = colours[instances & 255]
    shaded: Array = (picture * np.where(instances > 255, 0.6, 1.0)[..., None]).astype(np.uint8)
    return shaded


def flow_picture(flow: Array, visible: Array) -> Array:
    """Direction as colour, length as strength; black where the pixel is no longer visible."""
    length, angle = np.hypot(flow[..., 0], flow[..., 1]), np.arctan2(flow[..., 1], flow[..., 0]) % (2 * np.pi)
    hsv = np.stack([angle * 90 / np.pi, np.full_like(length, 255), (length * 8).clip(0, 255)], axis=-1)
    picture = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    return picture * visible[..., None].astype(np.uint8)


def label_picture(segmentation: Array) -> Array:
    picture: Array = COLOURS[segmentation]
    return picture


def sheet(a: DriveFrame, b: DriveFrame) -> Array:
    """One row: the picture, its labels, instances and depth, the flow to `b`, and `b` warped back by it."""
    flow, visible = flow_between(a, b)
    back = (warp(b.image, flow) * visible[..., None]).astype(np.uint8)
    row = (a.image, label_picture(a.segmentation), instance_picture(a.instances), depth_picture(a.depth))
    return np.hstack([*row, flow_picture(flow, visible), back])


def warp_errors(frames: list[DriveFrame]) -> tuple[float, float]:
    """Mean absolute difference (of 0..255) of pictures STEP apart, where visible: with and without warping."""
    errors = []
    for a, b in list(zip(frames, frames[STEP:], strict=False))[::8]:
        flow, visible = flow_between(a, b)
        errors.append(
            [np.abs(a.image - other)[visible].mean() for other in (warp(b.image, flow), b.image.astype(float))]
        )
    warped, still = np.mean(errors, axis=0)
    return float(warped), float(still)


def main(out: str, *drives: str) -> None:
    rows = []
    for drive in drives:
        frames = list(read_drive(Path(drive)))
        warped, still = warp_errors(frames)
        print(f"{drive}: warped {warped:.1f}, unwarped {still:.1f}")
        middle = len(frames) // 2
        rows.append(sheet(frames[middle], frames[middle + STEP]))
    save_picture(Path(out), np.vstack(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
