"""Moves the content of a grid along displacements."""

import torch
from torch import Tensor
from torch.nn import functional


def warp(x: Tensor, displacement: Tensor) -> Tensor:
    """Sample [n, C, h, w] at each cell's place plus its displacement [n, 2 (right, down), h, w], in cells."""
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device, dtype=torch.float32)[:, None]
    columns = torch.arange(width, device=x.device, dtype=torch.float32)
    right = (columns + displacement[:, 0].float() + 0.5) * (2 / width) - 1
    down = (rows + displacement[:, 1].float() + 0.5) * (2 / height) - 1
    # The grid stays in full precision: half precision would move the picture by whole cells.
    places = torch.stack([right, down], -1)
    # Where a place is NaN, as in a training that diverges, PyTorch reads any address on a CPU and may end the process.
    if x.device.type == "cpu" and not torch.compiler.is_compiling() and bool(places.isnan().any()):
        lost = places.isnan().any(-1)
        places = torch.where(lost[..., None], 0.0, places)
        return _sample(x, places).masked_fill(lost[:, None], torch.nan)
    return _sample(x, places)


def _sample(x: Tensor, places: Tensor) -> Tensor:
    return functional.grid_sample(x.float(), places, padding_mode="border", align_corners=False).to(x.dtype)
