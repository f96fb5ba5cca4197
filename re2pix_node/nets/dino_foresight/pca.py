"""Folds the PCA of standardised features into the linear layers on both sides of it.

Folding uses double precision: products of large and small factors then lose nothing that fp32 can hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PcaBasis:
    """All float64: mean, std and pca_mean [D], components [K, D]; D are the channels of all layers in a row.

    Into the basis: ((x - mean) / std - pca_mean) @ components.T. Out of it: (y @ components + pca_mean) * std + mean.
    """

    mean: Tensor
    std: Tensor
    pca_mean: Tensor
    components: Tensor

    def after_norm(self, norm: nn.LayerNorm) -> nn.Linear:
        """The map into the basis from layers that are normalised, but without the scale and shift of `norm`."""
        repeats = len(self.mean) // norm.normalized_shape[0]
        scale, shift = (t.double().repeat(repeats) for t in (norm.weight, norm.bias))
        weight = self.components * (scale / self.std)
        bias = self.components @ ((shift - self.mean) / self.std - self.pca_mean)
        return _linear(weight, bias)

    def before_projections(self, projections: Sequence[nn.Conv2d]) -> nn.ModuleList:
        """Turn the 1x1 convolutions of single layers into convolutions of the whole basis."""
        ends = torch.tensor([0] + [projection.in_channels for projection in projections]).cumsum(0).tolist()
        folded = []
        for projection, (start, end) in zip(projections, pairwise(ends), strict=True):
            assert projection.bias is not None
            layer = slice(start, end)
            weight = projection.weight.double().flatten(1)
            shift = self.pca_mean[layer] * self.std[layer] + self.mean[layer]
            linear = _linear(
                weight @ (self.components[:, layer] * self.std[layer]).T, projection.bias.double() + weight @ shift
            )
            folded.append(as_convolution(linear))
        return nn.ModuleList(folded)


def as_convolution(linear: nn.Linear) -> nn.Conv2d:
    convolution = nn.Conv2d(linear.in_features, linear.out_features, 1)
    convolution.weight = nn.Parameter(linear.weight[:, :, None, None], requires_grad=False)
    convolution.bias = linear.bias
    return convolution


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight.float(), requires_grad=False)
    linear.bias = nn.Parameter(bias.float(), requires_grad=False)
    return linear
