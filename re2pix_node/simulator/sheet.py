"""Pictures of every modality beside each other, for people to look at."""

import cv2
import numpy as np

from re2pix_node.simulator.classes import COLOURS
from re2pix_node.simulator.mesh import Array


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
    """Direction as colour, length as strength; black where it is not seen any more."""
    length, angle = np.hypot(flow[..., 0], flow[..., 1]), np.arctan2(flow[..., 1], flow[..., 0]) % (2 * np.pi)
    hsv = np.stack([angle * 90 / np.pi, np.full_like(length, 255), (length * 8).clip(0, 255)], axis=-1)
    picture = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    return picture * visible[..., None].astype(np.uint8)


def label_picture(segmentation: Array) -> Array:
    picture: Array = COLOURS[segmentation]
    return picture
