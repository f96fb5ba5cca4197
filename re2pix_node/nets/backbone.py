"""The interface of a backbone: a frozen vision model whose layers become the features of a frame.

A backbone is one file in nets/backbones/ with a `BACKBONE`. `backbone.kind` of a run file is the name of the file, or
the dotted name of a module elsewhere.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from re2pix_node.common.parts import find_part

FOLDER = "re2pix_node.nets.backbones"


@dataclass(frozen=True)
class Layer:
    channels: int
    cell: int  # pixels of the picture along one side of a cell


class Backbone(nn.Module):
    """u8 [n, H, W, 3] RGB -> the layers by name, each [n, channels, H / cell, W / cell]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        """`mean` and `std` of its training pictures: red, green and blue from 0 to 255."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    @abstractmethod
    def gives(self) -> Mapping[str, Layer]:
        """The layers that `forward` returns."""

    @abstractmethod
    def see(self, planes: Tensor) -> dict[str, Tensor]:
        """The layers of normalised pictures [n, 3, H, W]."""

    @abstractmethod
    def glance(self, planes: Tensor) -> list[Tensor]:
        """The output of its first layers on normalised pictures: training compares the look of pictures with it."""

    def normalised(self, planes: Tensor) -> Tensor:
        """[n, 3, H, W] from 0 to 255, normalised as in its training."""
        return (planes - self.mean) / self.std

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        # Cast before permuting: TensorRT refuses to transpose uint8.
        return self.see(self.normalised(frames.float().permute(0, 3, 1, 2)))


@dataclass(frozen=True)
class BackboneKind:
    title: str
    source: str  # where its weights are published
    licence: str
    multiple: int  # height and width of a picture must be multiples of this
    load: Callable[[Path], Backbone]  # reads its published weights, frozen; CheckpointError for any other file


def backbone_kind(name: str) -> BackboneKind:
    """The backbone of that name; ValueError lists the known names."""
    return find_part(FOLDER, name, "BACKBONE", BackboneKind)
