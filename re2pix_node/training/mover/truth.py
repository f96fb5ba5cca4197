"""Exact flow of simulated frames, on the device: the place of each pixel in an earlier frame, and its visibility."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from re2pix_node.footage.exact_drives import HALF, ExactDrive

SHARE, METRES = 0.03, 0.1  # maximum difference between measured and expected depth: a share and metres
FAR = 1e4  # metres: as good as the sky


def backward_flow(drive: ExactDrive, steps: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each frame, flow to the frame `steps` before it [n, 2, h, w] f16 in pixels of half size, and bool [n, h, w].

    The first `steps` frames have none.
    """
    n = len(drive.depth)
    a, b = slice(steps, n), slice(0, n - steps)
    motion = np.linalg.inv(drive.camera[b])[:, None] @ drive.objects[b] @ _inverse(drive.objects[a])
    motion = motion @ drive.camera[a][:, None]
    table = torch.from_numpy(np.ascontiguousarray(motion[..., :3, :])).to(device, torch.float32)
    depth = torch.from_numpy(drive.depth).to(device).float().nan_to_num(posinf=FAR).clamp(max=FAR)
    instances = torch.from_numpy(drive.instances).to(device).long()
    k = drive.intrinsics
    flows = torch.zeros((n, 2, *depth.shape[1:]), dtype=torch.float16, device=device)
    seen = torch.zeros(depth.shape, dtype=torch.bool, device=device)
    for start in range(steps, n, 32):  # a few at a time, because they need much memory
        rows = slice(start, min(start + 32, n))
        before = slice(rows.start - steps, rows.stop - steps)
        flow, visible = _flow(depth[rows], instances[rows], depth[before], instances[before], table[before], k)
        flows[rows], seen[rows] = flow.clamp(-6e4, 6e4).half(), visible
    return flows, seen


def _inverse(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of rigid poses; NaN stays NaN."""
    turned = np.swapaxes(poses[..., :3, :3], -1, -2)
    result = np.zeros_like(poses)
    result[..., :3, :3] = turned
    result[..., :3, 3] = -(turned @ poses[..., :3, 3:])[..., 0]
    result[..., 3, 3] = 1
    return result


def _flow(
    depth: Tensor,
    instances: Tensor,
    depth_before: Tensor,
    instances_before: Tensor,
    table: Tensor,
    k: NDArray[np.float64],
) -> tuple[Tensor, Tensor]:
    count, height, width = depth.shape
    fx, fy, cx, cy = float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])
    rows = torch.arange(height, device=depth.device, dtype=torch.float32)[:, None]
    columns = torch.arange(width, device=depth.device, dtype=torch.float32)
    x, y = (HALF * columns - cx) / fx * depth, (HALF * rows - cy) / fy * depth
    frame = torch.arange(count, device=depth.device)[:, None, None]
    motion = table[frame, instances.clamp(max=table.shape[1] - 1)]
    moved = motion[..., 0] * x[..., None] + motion[..., 1] * y[..., None] + motion[..., 2] * depth[..., None]
    moved = moved + motion[..., 3]
    z = moved[..., 2]
    ahead = z > 0.05  # false for NaN
    safe = torch.where(ahead, z, torch.ones_like(z))
    u = (moved[..., 0] / safe * fx + cx) / HALF
    v = (moved[..., 1] / safe * fy + cy) / HALF
    inside = ahead & (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    column = torch.where(inside, u, torch.zeros_like(u)).round().long().clamp(0, width - 1)
    row = torch.where(inside, v, torch.zeros_like(v)).round().long().clamp(0, height - 1)
    there = depth_before[frame, row, column]
    same = (instances_before[frame, row, column] == instances) & ((there - z).abs() < SHARE * z + METRES)
    visible = inside & torch.where(depth >= FAR * 0.99, there >= FAR * 0.99, same)
    flow = torch.stack([u - columns, v - rows], 1)
    return torch.where(inside[:, None], flow, torch.zeros_like(flow)), visible
