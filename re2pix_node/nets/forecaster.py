"""The interface of every family's forecaster, for training, evaluation, export and the renderer."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from re2pix_node.nets.masks import Masks


@dataclass(frozen=True)
class ForecasterOptions:
    """The options that follow from the run; a family adds those of its networks."""

    channels: int  # of the features that are forecast
    carried: int  # channels of the small picture after them
    height: int  # of the grid, in cells
    width: int
    context: int
    horizons: tuple[int, ...]  # multiples of the context's spacing


class FeatureForecast(NamedTuple):
    features: Tensor  # [n, K, h, w, channels]
    # [n, K, 2, h, w]: the place in the newest frame of a future cell's content, in cells to the right and down.
    displacements: Tensor | None = None


class Forecaster(nn.Module):
    """[n, T, h, w, channels + carried] -> FeatureForecast."""

    options: ForecasterOptions
    finds_motion = False  # whether its forecasts have displacements; the renderer needs them

    def forward(self, context: Tensor) -> FeatureForecast:
        raise NotImplementedError


class ReadForecast(NamedTuple):
    features: Tensor  # [1, K, h, w, channels]
    logits: Tensor  # [K + 1, classes, h', w']; those of the newest frame first


class HeadReader(nn.Module):
    """context_0 .. context_{T-1} [1, h, w, channels + carried] -> ReadForecast, all labels by the head.

    A family whose labels need more than a head on features has its own reader.
    """

    def __init__(self, net: Forecaster, head: nn.Module) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, *context: Tensor) -> ReadForecast:
        features = self.net(torch.stack(context, 1)).features
        now = context[-1][..., : self.net.options.channels]
        return ReadForecast(features, self.head(torch.cat([now, features[0]])))


class ForecastGraph(nn.Module):
    """forecast.onnx: context_0 .. context_{T-1} -> features, labels, confidence."""

    def __init__(self, reader: nn.Module, masks: Masks) -> None:
        super().__init__()
        self.reader, self.masks = reader, masks

    def forward(self, *context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, logits = self.reader(*context)
        labels, confidence = self.masks(logits)
        return features, labels[None], confidence[None]
