"""The DPT head of DINO-Foresight: four feature maps of one grid, fused from coarse to fine, into logits.

The maps become four scales (4, 2, 1 and 1/2 of the grid); the output has 8 cells along each side of a cell.
Parameters have the names of the published files.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

SCALE = 8  # cells of the logits along each side of a cell of the features


class ResidualUnit(nn.Module):
    bn1: Any  # batch norm, until it is folded
    bn2: Any

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(functional.relu(x)))
        out: Tensor = x + self.bn2(self.conv2(functional.relu(y)))
        return out

    def fold_norms(self) -> None:
        self.conv1, self.bn1 = fuse_conv_bn_eval(self.conv1, self.bn1), nn.Identity()
        self.conv2, self.bn2 = fuse_conv_bn_eval(self.conv2, self.bn2), nn.Identity()


class Fusion(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        # The coarsest fusion has nothing to add, but the published files have these weights for it too.
        self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)

    def forward(self, coarse: Tensor, fine: Tensor | None, size: tuple[int, int]) -> Tensor:
        x = coarse if fine is None else coarse + self.resConfUnit1(fine)
        # A 1x1 convolution and an interpolation commute; before the interpolation it is a quarter of the work.
        x = self.out_conv(self.resConfUnit2(x))
        return functional.interpolate(x, size, mode="bilinear", align_corners=True)


class DptHead(nn.Module):
    """Maps [B, C, h, w] -> logits [B, classes, 8 h, 8 w]. `inputs` are the channels of the four maps."""

    def __init__(
        self,
        classes: int,
        inputs: Sequence[int] = (768, 768, 768, 768),
        channels: int = 256,
        out_channels: Sequence[int] = (128, 256, 512, 512),
    ) -> None:
        super().__init__()
        first, second, _, fourth = out_channels
        self.projects: Any = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip(inputs, out_channels, strict=True))
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(first, first, 4, stride=4),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(fourth, fourth, 3, stride=2, padding=1),
            ]
        )
        scratch: dict[str, nn.Module] = {}
        for i, width in enumerate(out_channels, start=1):
            scratch[f"layer{i}_rn"] = nn.Conv2d(width, channels, 3, padding=1, bias=False)
            scratch[f"refinenet{i}"] = Fusion(channels)
        scratch["output_conv"] = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(channels, classes, 1),
        )
        self.scratch: Any = nn.ModuleDict(scratch)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        scratch = self.scratch
        first, second, third, fourth = (
            scratch[f"layer{i}_rn"](resize(project(x)))
            for i, (x, project, resize) in enumerate(zip(maps, self.projects, self.resize_layers, strict=True), start=1)
        )
        height, width = maps[0].shape[-2:]
        # Each fusion resizes to the map that the next one adds.
        path = scratch["refinenet4"](fourth, None, third.shape[-2:])
        path = scratch["refinenet3"](path, third, second.shape[-2:])
        path = scratch["refinenet2"](path, second, first.shape[-2:])
        path = scratch["refinenet1"](path, first, (SCALE * height, SCALE * width))
        logits: Tensor = scratch["output_conv"](path)
        return logits

    def fold_norms(self) -> None:
        """Fold batch normalisation into the convolutions. The function stays the same; for inference only."""
        self.eval()
        for module in self.modules():
            if isinstance(module, ResidualUnit):
                module.fold_norms()
        output = self.scratch["output_conv"]
        output[0], output[1] = fuse_conv_bn_eval(output[0], output[1]), nn.Identity()
