"""Weights in the layout of `rgb_imagenet.pt`, with random values."""

from functools import cache

import torch
from torch import Tensor

from re2pix_node.evaluation.i3d import I3d


@cache
def random_i3d() -> dict[str, Tensor]:
    """Scaled so that what goes in still matters in the last layer."""
    random = torch.Generator().manual_seed(3)
    found = {}
    for name, tensor in I3d().state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        found[name] = tensor
        if name.endswith("conv3d.weight"):
            found[name] = torch.randn(tensor.shape, generator=random) * (2 / tensor[0].numel()) ** 0.5
    return found
