"""The small forecaster: finds motion, moves the newest features along it, and corrects the result."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.forecaster import FeatureForecast, Forecaster, ForecasterOptions
from re2pix_node.nets.nano.motion import ConvBlock, Motion
from re2pix_node.nets.warp import warp


@dataclass(frozen=True)
class NanoOptions(ForecasterOptions):
    hidden: int = 192
    depth: int = 4
    heads: int = 6
    motion_hidden: int = 128
    motion_depth: int = 3
    rollout: bool = False  # repeat single steps on its own forecasts, instead of all horizons at once

    def __post_init__(self) -> None:
        if self.height % 2 or self.width % 2:
            raise ValueError(f"four cells make a token: the grid must be even, is {self.width} x {self.height}")
        if self.context < 2:
            raise ValueError(f"motion is seen from 2 frames on, the context is {self.context}")
        if self.rollout and self.horizons != tuple(range(1, len(self.horizons) + 1)):
            raise ValueError(f"a rollout forecasts each step: horizons must be 1, 2, .., are {list(self.horizons)}")


class NanoAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width, h, w], the same out."""
        number, width, height, columns = x.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        query, key, value = self.qkv(tokens).view(number, -1, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + torch.unflatten(self.out(mixed).transpose(1, 2), 2, (height, columns))


class NanoForecaster(Forecaster):
    options: NanoOptions
    finds_motion = True

    def __init__(self, options: NanoOptions) -> None:
        super().__init__()
        self.options = o = options
        horizons = (1,) if o.rollout else o.horizons  # horizons of one pass
        self.ahead = len(horizons)
        self.motion = Motion(o.channels, (o.height, o.width), o.context, horizons, o.motion_hidden, o.motion_depth)
        seen = (o.context + self.ahead) * o.channels + 2 * self.ahead + o.motion_hidden // 2
        # Four cells per token: attention over all tokens then costs a sixteenth.
        self.enter = nn.Conv2d(seen, o.hidden, 2, stride=2)
        self.place = nn.Parameter(torch.zeros(1, o.hidden, o.height // 2, o.width // 2))
        blocks = [layer for _ in range(o.depth) for layer in (NanoAttention(o.hidden, o.heads), ConvBlock(o.hidden))]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(o.hidden)
        self.leave = nn.Linear(o.hidden, 4 * self.ahead * o.channels)
        # Training starts from "everything keeps moving as it just did", which is hard to beat and always plausible.
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, context: Tensor) -> FeatureForecast:
        planes = context.permute(0, 1, 4, 2, 3)
        forecast, displacements = self._rolled_out(planes) if self.options.rollout else self._pass(planes)
        return FeatureForecast(forecast.permute(0, 1, 3, 4, 2), displacements)

    def _pass(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """[n, T, channels + carried, h, w] -> [n, ahead, channels, h, w] and the displacements."""
        o = self.options
        features, pictures = planes[:, :, : o.channels], planes[:, :, o.channels :]
        displacements, known = self.motion(features, pictures)
        moved = torch.stack([warp(features[:, -1], displacement) for displacement in displacements.unbind(1)], 1)
        seen = torch.cat([features.flatten(1, 2), moved.flatten(1, 2), displacements.flatten(1, 2), known], 1)
        x = self.blocks(self.enter(seen) + self.place)
        x = self.leave(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        change = torch.unflatten(functional.pixel_shuffle(x, 2), 1, (self.ahead, o.channels))
        return moved + change, displacements

    def _rolled_out(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        steps: list[Tensor] = []
        displacements: list[Tensor] = []
        for _ in self.options.horizons:
            step, displacement = self._pass(planes)
            moved = displacement[:, 0]
            picture = warp(planes[:, -1, self.options.channels :], moved)
            steps.append(step[:, 0])
            # The total displacement from the newest frame, through the earlier steps.
            displacements.append(moved + warp(displacements[-1], moved) if displacements else moved)
            planes = torch.cat([planes[:, 1:], torch.cat([steps[-1], picture], 1)[:, None]], 1)
        return torch.stack(steps, 1), torch.stack(displacements, 1)
