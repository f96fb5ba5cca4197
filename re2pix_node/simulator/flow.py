"""Exact optical flow and visibility, from depth and poses."""

import numpy as np

from re2pix_node.simulator.mesh import Array
from re2pix_node.simulator.reader import DriveFrame

# Maximum difference between measured and expected depth: a share of it, plus some metres.
_SHARE, _METRES = 0.02, 0.05


def flow_between(a: DriveFrame, b: DriveFrame) -> tuple[Array, Array]:
    """The flow of every pixel from `a` to `b` (H x W x 2, pixels right and down), and whether it is visible in `b`."""
    height, width = a.depth.shape
    rows, columns = np.mgrid[:height, :width].astype(float)
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(a.intrinsics).T
    far = ~np.isfinite(a.depth)
    points = rays * np.where(far, 1.0, a.depth)[..., None]
    moved = points @ (b_from_a := np.linalg.inv(b.camera) @ a.camera)[:3, :3].T
    moved[~far] += b_from_a[:3, 3]
    known = np.ones(far.shape, bool)
    for instance in np.unique(a.instances):
        if instance == 0:
            continue
        here = a.instances == instance
        if instance not in b.objects or instance not in a.objects:
            known[here] = False
            continue
        motion = np.linalg.inv(b.camera) @ b.objects[instance] @ np.linalg.inv(a.objects[instance]) @ a.camera
        moved[here] = points[here] @ motion[:3, :3].T + motion[:3, 3]
    ahead = moved[..., 2] > 1e-3
    image = moved @ b.intrinsics.T
    target = image[..., :2] / np.where(ahead, moved[..., 2], 1.0)[..., None]
    flow = target - np.stack([columns, rows], axis=-1)
    visible = known & ahead & _seen(target, moved[..., 2], far, a, b)
    return flow.astype(np.float32), visible


def warp(picture: Array, flow: Array) -> Array:
    """`picture` (H x W x C) sampled at the ends of a flow, interpolated; nearest at the border."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    x = np.clip(columns + flow[..., 0], 0, width - 1)
    y = np.clip(rows + flow[..., 1], 0, height - 1)
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    u, v = (x - left)[..., None], (y - top)[..., None]
    corners = [picture[top + i, left + j].astype(float) for i in (0, 1) for j in (0, 1)]
    warped: Array = (corners[0] * (1 - u) + corners[1] * u) * (1 - v) + (corners[2] * (1 - u) + corners[3] * u) * v
    return warped


def _seen(target: Array, depth: Array, far: Array, a: DriveFrame, b: DriveFrame) -> Array:
    """Whether the target is inside the picture, and shows the same object at the expected depth."""
    height, width = b.depth.shape
    x, y = target[..., 0], target[..., 1]
    # A pixel extends half its width around its middle.
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    same = b.instances[row, column] == a.instances
    # Depth changes within a pixel: the four pixels around the target give its range.
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    around = np.stack([b.depth[top + i, left + j] for i in (0, 1) for j in (0, 1)])
    slack = _SHARE * depth + _METRES
    near = (around.min(axis=0) - slack <= depth) & (depth <= around.max(axis=0) + slack)
    # A range across an edge is meaningless: there the nearest pixel decides.
    edge = around.max(axis=0) > around.min(axis=0) * 1.2 + 0.2
    near = np.where(edge, np.abs(b.depth[row, column] - depth) < slack, near)
    sky = ~np.isfinite(b.depth[row, column])
    visible: Array = inside & np.where(far, sky, same & near & ~sky)
    return visible
