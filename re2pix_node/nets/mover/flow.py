"""Finds the place of each cell in an earlier frame: a small network compares descriptors on two grids, then refines."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.features import SUB
from re2pix_node.nets.nano.motion import RADIUS, Compare
from re2pix_node.nets.warp import warp

DESCRIPTOR = 32
FINE = 24  # channels of the picture on the fine grid, which has 2 x 2 cells for each cell
FOUND = (2 * RADIUS + 1) ** 2


class MoverBlock(nn.Module):
    """Depthwise 7x7 and a per-cell network. Engines fold the batch normalisation into the convolution."""

    def __init__(self, width: int, wider: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width, momentum=0.02)
        self.expand = nn.Conv2d(width, wider * width, 1)
        self.contract = nn.Conv2d(wider * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.contract(functional.gelu(self.expand(self.norm(self.depthwise(x)))))
        return out


class FrameDescriber(nn.Module):
    """Descriptors of a frame's cells, and its picture on the fine grid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, FINE, 5, stride=2, padding=2)
        self.coarse = nn.Conv2d(FINE, 48, 3, stride=2, padding=1)
        self.features = nn.Conv2d(channels, 48, 1)
        self.out = nn.Conv2d(48, DESCRIPTOR, 3, padding=1)

    def forward(self, features: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """[n, C, h, w] and [n, SUB * SUB, h, w] -> [n, DESCRIPTOR, h, w] and [n, FINE, 2 h, 2 w]."""
        fine = functional.gelu(self.fine(functional.pixel_shuffle(picture, SUB)))
        return self.out(functional.gelu(self.coarse(fine) + self.features(features))), fine


class FlowNet(nn.Module):
    """Finds the place of each cell's content in another frame."""

    def __init__(self, grid: tuple[int, int], width: int, depth: int) -> None:
        super().__init__()
        height, columns = grid
        self.compare_fine, self.compare_coarse = Compare(height, columns), Compare(height // 2, columns // 2)
        half = width // 2
        self.fine = nn.Conv2d(FOUND + DESCRIPTOR, half, 1)
        self.coarse = nn.Conv2d(FOUND, width, 1)
        self.merge = nn.Conv2d(half, width, 2, stride=2)
        self.place = nn.Parameter(torch.zeros(1, width, height // 2, columns // 2))
        self.blocks = nn.Sequential(*[MoverBlock(width) for _ in range(depth)])
        self.split = nn.Conv2d(width, 2 * width, 1)
        self.first = nn.Conv2d(half, 2, 3, padding=1)
        self.again = nn.Conv2d(3 * DESCRIPTOR + 2 + half, half, 1)
        self.look = MoverBlock(half)
        self.second = nn.Conv2d(half, 2, 3, padding=1)
        for layer in (self.first, self.second):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, now: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Descriptors [n, DESCRIPTOR, h, w] of both -> first flow, flow, and the evidence [n, width // 2, h, w]."""
        small = [functional.avg_pool2d(x, 2) for x in (now, other)]
        near = functional.gelu(self.fine(torch.cat([self.compare_fine(now, other), now], 1)))
        x = self.blocks(self.merge(near) + self.coarse(self.compare_coarse(*small)) + self.place)
        x = functional.pixel_shuffle(self.split(x), 2) + near
        first = self.first(x).float()
        there = warp(other, first)
        known = self.look(self.again(torch.cat([now, there, now - there, first.to(now.dtype), x], 1)))
        return first, first + self.second(known).float(), known
