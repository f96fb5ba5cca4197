"""DINO-Foresight as the two modules of a bundle. Everything that can be folded exactly is folded.

The published model forecasts the PCA of four layers of DINOv2; these are the bundle's features. The forecaster's
`embed` could also be folded into the encoder, but then features would be in a space that no head and no metric knows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.backbones.dinov2 import MEAN, NORM_EPS, PATCH, STD, DinoV2, run_blocks
from re2pix_node.nets.dino_foresight.dpt import SCALE, DptHead
from re2pix_node.nets.dino_foresight.masked_transformer import MaskedTransformer
from re2pix_node.nets.dino_foresight.pca import PcaBasis
from re2pix_node.nets.masks import Masks

CLASSES = 19  # of Cityscapes, in the order of their train ids


@dataclass(frozen=True)
class DinoForesight:
    """The parts as published."""

    backbone: DinoV2
    layers: tuple[int, ...]
    basis: PcaBasis
    transformer: MaskedTransformer
    head: DptHead
    grid: tuple[int, int]

    @property
    def image_size(self) -> tuple[int, int]:
        return self.grid[0] * PATCH, self.grid[1] * PATCH

    @property
    def mask_size(self) -> tuple[int, int]:
        return self.grid[0] * SCALE, self.grid[1] * SCALE


class DinoEncoder(nn.Module):
    """frame u8 [1, H, W, 3] -> features [1, h, w, C]. Changes the parts: folding modifies the backbone."""

    leading: Tensor
    positions: Tensor

    def __init__(self, parts: DinoForesight) -> None:
        super().__init__()
        backbone = parts.backbone
        self.grid = parts.grid
        self.layers = parts.layers
        self.patches, bias = _on_bytes(backbone.patch_embed["proj"])
        self.register_buffer("leading", backbone.leading_tokens())
        self.register_buffer("positions", backbone.positions(*parts.grid) + bias)
        self.blocks = backbone.blocks
        for block in self.blocks:
            block.fold_scales()
        self.project = parts.basis.after_norm(backbone.norm)

    def forward(self, frame: Tensor) -> Tensor:
        # Cast before permuting: TensorRT refuses to transpose uint8.
        patches = self.patches(frame.float().permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        layers = run_blocks(self.blocks, self.leading, patches + self.positions, self.layers)
        normed = [functional.layer_norm(x, x.shape[-1:], eps=NORM_EPS) for x in layers]
        features: Tensor = self.project(torch.cat(normed, dim=-1))
        return torch.unflatten(features, 1, self.grid)


class DinoForecaster(nn.Module):
    """context_0 .. context_{T-1} [1, h, w, C] -> features, labels, confidence. Changes the parts, like the encoder."""

    positions: Tensor

    def __init__(self, parts: DinoForesight, horizons: tuple[int, ...]) -> None:
        super().__init__()
        self.horizons = horizons
        self.transformer = parts.transformer
        self.register_buffer("positions", parts.transformer.positions())
        self.head = parts.head
        self.head.fold_norms()
        self.head.projects = parts.basis.before_projections(self.head.projects)
        self.masks = Masks(range(CLASSES), parts.mask_size)

    def forward(self, *context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps = self.transformer.rollout(context, max(self.horizons), self.positions)
        wanted = [steps[horizon - 1] for horizon in self.horizons]
        moments = torch.cat([context[-1], *wanted]).permute(0, 3, 1, 2)
        labels, confidence = self.masks(self.head([moments] * len(self.head.projects)))
        return torch.stack(wanted, dim=1), labels[None], confidence[None]


def _on_bytes(convolution: nn.Conv2d) -> tuple[nn.Conv2d, Tensor]:
    """Turn a convolution of ImageNet-normalised pictures into one of bytes. Exact, because nothing is padded."""
    assert convolution.bias is not None
    mean, std = (torch.tensor(values).double()[:, None, None] for values in (MEAN, STD))
    weight = convolution.weight.double() / std
    on_bytes = nn.Conv2d(3, len(weight), PATCH, PATCH, bias=False)
    on_bytes.weight = nn.Parameter((weight / 255).float(), requires_grad=False)
    return on_bytes, (convolution.bias.double() - (weight * mean).sum((1, 2, 3))).float()
