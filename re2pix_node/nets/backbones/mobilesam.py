"""MobileSAM's image encoder (TinyViT-5M and SAM's neck), for any picture size that is a multiple of 32.

Parameters have the published names, so that `mobile_sam.pt` loads strictly (under `image_encoder.`).
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.errors import CheckpointError
from re2pix_node.nets.backbone import Backbone, BackboneKind, Layer
from re2pix_node.nets.checkpoints import read_checkpoint

LAYERS = {"stage1": Layer(128, 8), "stage2": Layer(160, 16), "stage3": Layer(320, 16), "neck": Layer(256, 16)}
WIDTHS, DEPTHS, HEADS, WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)
# Tensors of the published file that only ImageNet's classifier needs.
UNUSED = ("norm_head.", "head.")
PREFIX = "image_encoder."
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class ConvNorm(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(outputs))


class PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, width // 2, 3, 2), nn.GELU(), ConvNorm(width // 2, width, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.seq(x)
        return out


class MBConv(nn.Module):
    def __init__(self, width: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = width * expansion
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.conv1(x))
        y = functional.gelu(self.conv2(y))
        return functional.gelu(self.conv3(y) + x)


class PatchMerging(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(x)))))
        return out


class WindowAttention(nn.Module):
    """Attention among the cells of a window, with a bias by the distance of two cells."""

    attention_bias_idxs: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        rows, columns = rows.flatten(), columns.flatten()
        apart = (rows[:, None] - rows).abs() * window + (columns[:, None] - columns).abs()
        self.register_buffer("attention_bias_idxs", apart, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[windows, cells, width], the same out."""
        windows, cells, width = x.shape
        qkv = self.qkv(self.norm(x)).view(windows, cells, self.heads, 3, width // self.heads)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        bias = self.attention_biases[:, self.attention_bias_idxs]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(windows, cells, width))
        return out


class SamMlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(x))))
        return out


class SamBlock(nn.Module):
    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.mlp = SamMlp(width)
        self.local_conv = ConvNorm(width, width, 3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width, h, w], the same out."""
        x = x.permute(0, 2, 3, 1)
        x = x + self._in_windows(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.mlp(x)
        return x.permute(0, 3, 1, 2)

    def _in_windows(self, x: Tensor) -> Tensor:
        number, height, width, channels = x.shape
        size = self.window
        down, right = -height % size, -width % size
        if down or right:  # the published encoder pads with zeros that take part in attention
            x = functional.pad(x, (0, 0, 0, right, 0, down))
        rows, columns = (height + down) // size, (width + right) // size
        tiles = x.view(number, rows, size, columns, size, channels).transpose(2, 3)
        tiles = self.attn(tiles.reshape(-1, size * size, channels))
        tiles = tiles.view(number, rows, columns, size, size, channels).transpose(2, 3)
        whole: Tensor = tiles.reshape(number, height + down, width + right, channels)
        return whole[:, :height, :width]


class Stage(nn.Module):
    def __init__(self, blocks: Sequence[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample


class ChannelNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return x.permute(0, 3, 1, 2)


class MobileSamEncoder(Backbone):
    def __init__(self) -> None:
        super().__init__(MEAN, STD)
        self.patch_embed = PatchEmbed(WIDTHS[0])
        stages: list[Stage] = []
        for index, (width, depth, heads, window) in enumerate(zip(WIDTHS, DEPTHS, HEADS, WINDOWS, strict=True)):
            blocks = [MBConv(width) if index == 0 else SamBlock(width, heads, window) for _ in range(depth)]
            # The last merging keeps the grid: SAM needs 16 pixels a cell, TinyViT had 32.
            merging = PatchMerging(width, WIDTHS[index + 1], 1 if index == 2 else 2) if index < 3 else None
            stages.append(Stage(blocks, merging))
        self.layers = nn.ModuleList(stages)
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], 256, 1, bias=False),
            ChannelNorm(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            ChannelNorm(256),
        )

    @property
    def gives(self) -> Mapping[str, Layer]:
        return LAYERS

    def see(self, planes: Tensor) -> dict[str, Tensor]:
        _, *stages = self._stages(self.patch_embed(planes), len(WIDTHS))
        found = {f"stage{number}": stage for number, stage in enumerate(stages, start=1)}
        return {**found, "neck": self.neck(stages[-1])}

    def glance(self, planes: Tensor) -> list[Tensor]:
        """The patches, and the first two stages."""
        patches = self.patch_embed(planes)
        return [patches, *self._stages(patches, 2)]

    def _stages(self, x: Tensor, count: int) -> list[Tensor]:
        found: list[Tensor] = []
        for stage in islice(self.layers, count):
            assert isinstance(stage, Stage)
            x = stage.blocks(x)
            found.append(x)
            if stage.downsample is not None and len(found) < count:
                x = stage.downsample(x)
        return found


def load_mobilesam(path: Path) -> MobileSamEncoder:
    """The encoder with the weights of a published `mobile_sam.pt`."""
    tensors = read_checkpoint(path).tensors
    own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if not own:
        raise CheckpointError(f"{path}: has no '{PREFIX}...': backbone.weights must be mobile_sam.pt (docs/train.md)")
    encoder = MobileSamEncoder().eval()
    try:
        encoder.load_state_dict({name: tensor for name, tensor in own.items() if not name.startswith(UNUSED)})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: is not the published mobile_sam.pt: {reason}") from None
    return encoder.requires_grad_(False)


BACKBONE = BackboneKind(
    title="MobileSAM's image encoder",
    source="https://github.com/ChaoningZhang/MobileSAM, mobile_sam.pt",
    licence="Apache-2.0",
    multiple=32,
    load=load_mobilesam,
)
