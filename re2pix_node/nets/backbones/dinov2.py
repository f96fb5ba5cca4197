"""DINOv2: the vision transformers S, B and L of facebookresearch/dinov2, with and without registers.

Parameters have the names of the published files, so these load unchanged. ViT-g is missing: its weights are too large
for one ONNX file.
"""

from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.errors import CheckpointError
from re2pix_node.nets.backbone import Backbone, BackboneKind, Layer
from re2pix_node.nets.checkpoints import Checkpoint, filled, read_checkpoint

PATCH = 14
HEAD_WIDTH = 64
NORM_EPS = 1e-6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pictures from 0 to 1
SIZES = {"vits14": (384, 12), "vitb14": (768, 12), "vitl14": (1024, 24)}  # width, depth


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class DinoAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        queries, keys, values = self.qkv(x).reshape(batch, tokens, 3, -1, HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class DinoMlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class DinoBlock(nn.Module):
    ls1: nn.Module
    ls2: nn.Module

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = DinoAttention(width)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = DinoMlp(width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out

    @torch.no_grad()
    def fold_scales(self) -> None:
        """Fold LayerScale into the linear layer before it. The function stays the same; for inference only."""
        for linear, scale in ((self.attn.proj, self.ls1), (self.mlp.fc2, self.ls2)):
            if isinstance(scale, LayerScale):
                linear.weight.mul_(scale.gamma[:, None])
                linear.bias.mul_(scale.gamma)
        self.ls1, self.ls2 = nn.Identity(), nn.Identity()


class DinoV2(nn.Module):
    """A vision transformer on patches of 14 pixels. `grid` is the side of the stored position grid (518 / 14)."""

    def __init__(self, width: int = 768, depth: int = 12, registers: int = 4, grid: int = 37) -> None:
        super().__init__()
        self.registers = registers
        self.grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, width))
        # Not used at inference, but part of every published file.
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed: Any = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks: Any = nn.ModuleList(DinoBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Patch tokens [B, h, w, C] after each of these blocks, all through the final norm; images are normalised."""
        rows, columns = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2) + self.positions(rows, columns)
        return [
            self.norm(tokens).unflatten(1, (rows, columns))
            for tokens in run_blocks(self.blocks, self.leading_tokens(), patches, layers)
        ]

    def leading_tokens(self) -> Tensor:
        """[1, 1 + registers, C]: the class token with its position, and the registers without position."""
        tokens = self.cls_token + self.pos_embed[:, :1]
        return torch.cat([tokens, self.register_tokens], dim=1) if self.registers else tokens

    def positions(self, rows: int, columns: int) -> Tensor:
        """[1, rows * columns, C]: the stored positions, interpolated to another grid as in each variant's training.

        The variants with registers smooth before they shrink. Those without do not, and use a ratio of sizes that is a
        tenth of a cell too large.
        """
        stored = self.pos_embed[:, 1:]
        if rows == columns == self.grid:
            return stored
        square = torch.unflatten(stored, 1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        if self.registers:
            fitted = functional.interpolate(square, size=(rows, columns), mode="bicubic", antialias=True)
        else:
            ratios = ((rows + 0.1) / self.grid, (columns + 0.1) / self.grid)
            fitted = functional.interpolate(square, scale_factor=ratios, mode="bicubic")
        return fitted.flatten(2).transpose(1, 2)


def run_blocks(blocks: nn.ModuleList, leading: Tensor, patches: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """Patch tokens [B, h * w, C] after each of these blocks, before the final norm."""
    tokens = torch.cat([leading.expand(len(patches), -1, -1), patches], dim=1)
    taken = []
    for i, block in enumerate(blocks[: max(layers) + 1]):
        tokens = block(tokens)
        if i in layers:
            taken.append(tokens[:, leading.shape[1] :])
    return taken


class DinoV2Backbone(Backbone):
    """The patch tokens after each block, all through the final norm: block0, block1 and so on."""

    def __init__(self, net: DinoV2) -> None:
        red, green, blue = MEAN
        super().__init__((255 * red, 255 * green, 255 * blue), (255 * STD[0], 255 * STD[1], 255 * STD[2]))
        self.net = net

    @property
    def gives(self) -> Mapping[str, Layer]:
        return {f"block{number}": Layer(self.net.norm.normalized_shape[0], PATCH) for number in self._numbers()}

    def see(self, planes: Tensor) -> dict[str, Tensor]:
        maps = self.net(planes, self._numbers())
        return {f"block{number}": found.permute(0, 3, 1, 2) for number, found in enumerate(maps)}

    def glance(self, planes: Tensor) -> list[Tensor]:
        """The first two blocks."""
        return [found.permute(0, 3, 1, 2) for found in self.net(planes, range(2))]

    def _numbers(self) -> range:
        return range(len(self.net.blocks))


def dinov2_of(published: Checkpoint, prefix: str = "") -> DinoV2:
    """The model whose tensor names start with `prefix`; the tensors give its sizes."""
    width = published.shape(f"{prefix}cls_token", 3)[-1]
    stored = published.shape(f"{prefix}pos_embed", 3)[1] - 1
    grid = isqrt(max(stored, 0))
    if grid**2 != stored or width % HEAD_WIDTH:
        raise CheckpointError(f"{published.path}: '{prefix}pos_embed' is not that of a DINOv2 with patches of {PATCH}")
    tokens = f"{prefix}register_tokens"
    registers = published.shape(tokens, 3)[1] if tokens in published.tensors else 0
    depth = published.count(f"{prefix}blocks.")
    return filled(lambda: DinoV2(width, depth, registers, grid), published.part(prefix), published.path, prefix)


def load_dinov2(path: Path) -> DinoV2Backbone:
    """The published dinov2_vit{s,b,l}14_pretrain.pth, or the same with registers."""
    return DinoV2Backbone(dinov2_of(read_checkpoint(path))).eval().requires_grad_(False)


BACKBONE = BackboneKind(
    title="DINOv2",
    source="https://github.com/facebookresearch/dinov2",
    licence="Apache-2.0",
    multiple=PATCH,
    load=load_dinov2,
)
