"""Motion: displacements from comparing frames inside the graph, and warping along them.

Optical flow between the two newest frames is computed, not learnt, so it is equally good on unseen cameras. The learnt
part starts from "everything keeps moving as it just did", which is that flow times the horizon, and corrects it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.features import SUB
from re2pix_node.nets.warp import warp

RADIUS = 4  # search radius in cells, on the fine and on the coarse grid
DESCRIPTOR = 24
# The flow: levels of the pyramid, iterations on each, and the texture that a displacement needs to be trusted.
LEVELS, ROUNDS, STIFF = 3, 3, 0.05


class ConvBlock(nn.Module):
    """Depthwise 7x7 and a per-cell network, as in ConvNeXt."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.contract = nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        change: Tensor = self.contract(functional.gelu(self.expand(y)))
        return x + change.permute(0, 3, 1, 2)


class Describe(nn.Module):
    """A short unit vector for each cell, from the carried picture and the features, for comparing frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, 32, 5, stride=2, padding=2)
        self.coarse = nn.Conv2d(32, 2 * DESCRIPTOR, 3, stride=2, padding=1)
        self.features = nn.Conv2d(channels, 2 * DESCRIPTOR, 1)
        self.out = nn.Conv2d(2 * DESCRIPTOR, DESCRIPTOR, 3, padding=1)

    def forward(self, features: Tensor, picture: Tensor) -> Tensor:
        grey = functional.pixel_shuffle(picture, SUB)
        seen = self.coarse(functional.gelu(self.fine(grey))) + self.features(features)
        out: Tensor = self.out(functional.gelu(seen))
        return out


class Compare(nn.Module):
    """The similarity of each cell to the cells around its place in another frame: [n, (2 RADIUS + 1)^2, h, w]."""

    places: Tensor
    inside: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        reach = torch.arange(-RADIUS, RADIUS + 1)
        rows = torch.arange(height)[:, None, None, None] + reach[:, None]
        columns = torch.arange(width)[None, :, None, None] + reach
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
        cells = height * width
        self.register_buffer("places", places.reshape(1, cells, -1), persistent=False)
        self.register_buffer("inside", inside.reshape(1, cells, -1).float(), persistent=False)

    def forward(self, now: Tensor, other: Tensor) -> Tensor:
        number, _, height, width = now.shape
        now, other = (functional.normalize(x.float(), dim=1, eps=1e-4).flatten(2) for x in (now, other))
        alike = now.transpose(1, 2) @ other  # all pairs of cells: one product is faster than 81 shifted ones
        near = torch.gather(alike, 2, self.places.expand(number, -1, -1)) * self.inside
        return torch.unflatten(near.transpose(1, 2), 2, (height, width))


class Motion(nn.Module):
    """For each horizon, the place in the newest frame of a future cell's content, in cells [n, K, 2, h, w]."""

    steps: Tensor

    def __init__(
        self, channels: int, grid: tuple[int, int], frames: int, horizons: tuple[int, ...], width: int, depth: int
    ) -> None:
        super().__init__()
        height, columns = grid
        self.pairs = min(frames - 1, 2)
        self.describe = Describe(channels)
        self.compare = nn.ModuleList([Compare(height, columns), Compare(height // 2, columns // 2)])
        found = self.pairs * (2 * RADIUS + 1) ** 2
        self.fine = nn.Conv2d(found, width // 2, 1)
        self.content = nn.Conv2d(channels + 3, width // 2, 1)
        self.coarse = nn.Conv2d(found, width, 1)
        self.merge = nn.Conv2d(width, width, 2, stride=2)
        self.place = nn.Parameter(torch.zeros(1, width, height // 2, columns // 2))
        self.blocks = nn.Sequential(*[ConvBlock(width) for _ in range(depth)])
        self.split = nn.Linear(width, 2 * width)
        self.refine = ConvBlock(width // 2)
        self.change = nn.Conv2d(width // 2, 2 * len(horizons), 3, padding=1)
        for parameter in self.change.parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("steps", torch.tensor(horizons, dtype=torch.float32).view(1, -1, 1, 1, 1), False)

    def forward(self, features: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[n, T, C, h, w] and [n, T, 16, h, w] -> displacements, and the evidence of motion [n, m, h, w]."""
        number = features.shape[0]
        frames = self.pairs + 1
        flow, unlike = flow_between(pictures[:, -1], pictures[:, -2])
        described = self.describe(features[:, -frames:].flatten(0, 1), pictures[:, -frames:].flatten(0, 1))
        small = functional.avg_pool2d(described, 2)
        described, small = (torch.unflatten(x, 0, (number, frames)) for x in (described, small))
        fine, coarse = (
            torch.cat([compare(x[:, -1], x[:, -2 - pair]) for pair in range(self.pairs)], 1)
            for compare, x in zip(self.compare, (described, small), strict=True)
        )
        content = self.content(torch.cat([features[:, -1], flow, unlike], 1))
        near = functional.gelu(torch.cat([self.fine(fine), content], 1))
        x = self.blocks(self.merge(near) + self.coarse(coarse) + self.place)
        x = functional.pixel_shuffle(self.split(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 2)
        known = self.refine(x + content)
        change = torch.unflatten(self.change(known), 1, (-1, 2))
        return self.steps * flow[:, None] + change, known


@torch.no_grad()
def flow_between(now: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """The place of each cell's content in the previous frame, in cells [n, 2, h, w], and how different it looked there.

    Lucas and Kanade's method on a pyramid of the carried pictures [n, 16, h, w], its finest level two pixels a cell.
    """
    pyramid = [[functional.avg_pool2d(functional.pixel_shuffle(x.float(), SUB), 2)] for x in (now, before)]
    for levels in pyramid:
        for _ in range(LEVELS - 1):
            levels.append(functional.avg_pool2d(levels[-1], 2))
    flow = torch.zeros_like(pyramid[0][-1]).expand(-1, 2, -1, -1)
    for level in reversed(range(LEVELS)):
        seen, other = pyramid[0][level], pyramid[1][level]
        if level < LEVELS - 1:
            flow = 2 * functional.interpolate(flow, scale_factor=2.0, mode="bilinear")
        across, down = _slopes(seen)
        xx, xy, yy = torch.split(_around(torch.cat([across * across, across * down, down * down], 1)), 1, 1)
        # Without texture this keeps the flow of the coarser level.
        xx, yy = xx + STIFF, yy + STIFF
        scale = 1 / (xx * yy - xy * xy)
        for _ in range(ROUNDS):
            off = warp(other, flow) - seen
            x, y = torch.split(_around(torch.cat([across * off, down * off], 1)), 1, 1)
            step = torch.cat([xy * y - yy * x, xy * x - xx * y], 1) * scale
            flow = _mean(flow + step.clamp(-1, 1), 1)
    unlike = (warp(pyramid[1][0], flow) - pyramid[0][0]).abs()
    return functional.avg_pool2d(flow, 2) / 2, functional.avg_pool2d(unlike, 2)


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def _around(x: Tensor) -> Tensor:
    """Weighted mean over a neighbourhood of 9 x 9; near cells weigh more."""
    return _mean(_mean(x, 2), 2)


def _mean(x: Tensor, reach: int) -> Tensor:
    return functional.avg_pool2d(functional.pad(x, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)
