"""The forecaster of the family: flow, motion, features moved and corrected, and labels from two opinions."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.mover.flow import FINE, FlowNet, FrameDescriber, MoverBlock
from re2pix_node.nets.mover.head import EdgeHead
from re2pix_node.nets.nano.forecaster import NanoAttention
from re2pix_node.nets.warp import warp

TINY = 1e-5
PAST = 2  # flows between the newest frames, from which motion is predicted


@dataclass(frozen=True)
class MoverOptions:
    channels: int  # of the features that are forecast
    carried: int  # channels of the small picture after them
    height: int  # of the grid, in cells
    width: int
    context: int
    horizons: tuple[int, ...]  # multiples of the context's spacing
    classes: int
    flow_width: int = 96
    flow_depth: int = 2
    motion_width: int = 128
    motion_depth: int = 3
    hidden: int = 160
    depth: int = 3
    heads: int = 5
    head_width: int = 128

    def __post_init__(self) -> None:
        if self.context < PAST + 1:
            raise ValueError(f"motion is seen from {PAST + 1} frames on, the context is {self.context}")


@dataclass
class MoverForecast:
    """The forecaster's outputs, and its intermediate results, which are trained too."""

    features: Tensor  # [n, K, C, h, w]
    moved: Tensor  # [n, K, C, h, w], the newest features along the displacements
    displacements: Tensor  # [n, K, 2, h, w], in cells
    flows: list[Tensor]  # of the newest pairs, first and refined: [n, 2, h, w]
    now: Tensor  # [n, classes, 2 h, 2 w], logits
    opinions: Tensor  # [n, K, classes, 2 h, 2 w], logits of the head on the forecast features
    chances: Tensor  # [n, K, classes, 2 h, 2 w], probabilities of both opinions together
    shift: Tensor  # [n, K, 2, 2 h, 2 w], the displacements on the fine grid, in its cells

    @property
    def labels(self) -> Tensor:
        """[n, K, classes, 2 h, 2 w], log probabilities."""
        return (self.chances + TINY).log()


class MoverMotion(nn.Module):
    """From past flows to the place of each future cell's content in the newest frame."""

    steps: Tensor

    def __init__(self, o: MoverOptions) -> None:
        super().__init__()
        half, known = o.motion_width // 2, o.flow_width // 2
        self.content = nn.Conv2d(o.channels, half, 1)
        self.enter = nn.Conv2d(PAST * known + 4 + 2 * len(o.horizons), half, 1)
        self.merge = nn.Conv2d(half, o.motion_width, 2, stride=2)
        self.place = nn.Parameter(torch.zeros(1, o.motion_width, o.height // 2, o.width // 2))
        self.blocks = nn.Sequential(*[MoverBlock(o.motion_width) for _ in range(o.motion_depth)])
        self.split = nn.Conv2d(o.motion_width, 2 * o.motion_width, 1)
        self.refine = MoverBlock(half)
        self.change = nn.Conv2d(half, 2 * len(o.horizons), 3, padding=1)
        for parameter in self.change.parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("steps", torch.tensor(o.horizons, dtype=torch.float32).view(1, -1, 1, 1, 1), False)

    def forward(self, features: Tensor, flows: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """[n, C, h, w], [n, 2, 2, h, w] and [n, 2, k, h, w], newest first -> [n, K, 2, h, w] and the evidence."""
        newest, before = flows.unbind(1)
        # The content of a cell was elsewhere one frame before; its motion at that time is sampled there.
        before = warp(before, newest)
        reach = self.steps * newest[:, None]
        # The content of a future cell comes from its present place, and moves as it moves there.
        start = torch.stack(
            [k * warp(newest, d) for k, d in zip(self.steps.flatten(), reach.unbind(1), strict=True)], 1
        )
        seen = torch.cat([known.flatten(1, 2), newest, newest - before, start.flatten(1, 2)], 1)
        near = functional.gelu(self.content(features) + self.enter(seen))
        x = self.blocks(self.merge(near) + self.place)
        x = functional.pixel_shuffle(self.split(x), 2)
        x = self.refine(x + near)
        return start + torch.unflatten(self.change(x).float(), 1, (-1, 2)), x


class OpinionGate(nn.Module):
    """Decides at each place between the moved labels of now and the head's labels of the forecast."""

    def __init__(self, classes: int, known: int, width: int = 32) -> None:
        super().__init__()
        self.enter = nn.Conv2d(2 * classes + 2, width, 1)
        self.known = nn.Conv2d(known, 4 * width, 1)
        self.around = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, moved: Tensor, read: Tensor, shift: Tensor, known: Tensor) -> Tensor:
        """Probabilities of both [n, classes, 2 h, 2 w], [n, 2, 2 h, 2 w], [n, known, h, w] -> those of the mixture."""
        x = self.enter(torch.cat([moved.to(known.dtype), read.to(known.dtype), shift.to(known.dtype) / 8], 1))
        x = functional.gelu(x + functional.pixel_shuffle(self.known(known), 2))
        trust: Tensor = self.out(x + functional.gelu(self.around(x))).float().sigmoid()
        return read + trust * (moved - read)


class MoverForecaster(nn.Module):
    def __init__(self, options: MoverOptions) -> None:
        super().__init__()
        self.options = o = options
        ahead = len(o.horizons)
        self.describe = FrameDescriber(o.channels)
        self.flow = FlowNet((o.height, o.width), o.flow_width, o.flow_depth)
        self.motion = MoverMotion(o)
        half = o.motion_width // 2
        # Four cells per token: attention over all tokens then costs a sixteenth.
        self.enter = nn.Conv2d((2 + ahead) * o.channels + 2 * ahead + half, o.hidden, 2, stride=2)
        self.place = nn.Parameter(torch.zeros(1, o.hidden, o.height // 2, o.width // 2))
        blocks = [layer for _ in range(o.depth) for layer in (NanoAttention(o.hidden, o.heads), MoverBlock(o.hidden))]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(o.hidden, momentum=0.02)
        self.leave = nn.Conv2d(o.hidden, 4 * ahead * o.channels, 1)
        self.known = nn.Conv2d(o.hidden, 4 * 32, 1)
        self.head = EdgeHead(o.channels, o.classes, o.head_width)
        self.edge = nn.Sequential(nn.Conv2d(FINE + 4, 32, 3, padding=1), nn.GELU(), nn.Conv2d(32, 2, 3, padding=1))
        for layer in (self.leave, self.edge[2]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        self.gate = OpinionGate(o.classes, 32)

    def read(self, frames: Tensor) -> Tensor:
        """[n, h, w, channels + carried] -> logits of the present labels [n, classes, 2 h, 2 w]."""
        planes = frames.permute(0, 3, 1, 2)
        features, picture = planes[:, : self.options.channels], planes[:, self.options.channels :]
        logits: Tensor = self.head(features, self.describe(features, picture)[1])
        return logits

    def forward(self, context: Tensor) -> MoverForecast:
        """[n, T, h, w, channels + carried], oldest first."""
        o, number = self.options, context.shape[0]
        ahead = len(o.horizons)
        frames = context[:, -1 - PAST :].flip(1).permute(0, 1, 4, 2, 3)  # the newest first
        features, pictures = frames[:, :, : o.channels], frames[:, :, o.channels :]
        described, fine = self.describe(features.flatten(0, 1), pictures.flatten(0, 1))
        described = torch.unflatten(described, 0, (number, PAST + 1))
        fine = torch.unflatten(fine, 0, (number, PAST + 1))[:, 0]
        first, flow, known = self.flow(described[:, :-1].flatten(0, 1), described[:, 1:].flatten(0, 1))
        flows = torch.unflatten(flow, 0, (number, PAST))
        newest = features[:, 0]
        displacements, moving = self.motion(newest, flows, torch.unflatten(known, 0, (number, PAST)))
        flat = displacements.flatten(0, 1)
        moved = torch.unflatten(warp(_repeat(newest, ahead), flat), 0, (number, ahead))
        before = warp(features[:, 1], flows[:, 0])
        seen = torch.cat([newest, before, moved.flatten(1, 2), displacements.flatten(1, 2).to(newest.dtype), moving], 1)
        x = self.norm(self.blocks(self.enter(seen) + self.place))
        change = torch.unflatten(functional.pixel_shuffle(self.leave(x), 2), 1, (ahead, o.channels))
        said = moved + change
        about = functional.pixel_shuffle(self.known(x), 2)
        now = self.head(newest, fine)
        # Labels and edges move on the fine grid. The moved picture shows where an edge will be.
        shift = 2 * functional.interpolate(flat, scale_factor=2.0, mode="bilinear")
        edges = warp(_repeat(fine, ahead), shift)
        whole = shift.detach().round()
        off = torch.cat([edges, (shift / 8).to(edges.dtype), (shift - whole).to(edges.dtype)], 1)
        shift = shift + self.edge(off).float()
        stay = warp(_repeat(now.float().softmax(1), ahead), shift)
        opinions = self.head(said.flatten(0, 1), edges)
        chances = self.gate(stay, opinions.float().softmax(1), shift, _repeat(about, ahead))
        return MoverForecast(
            said,
            moved,
            displacements,
            [x.unflatten(0, (number, PAST)) for x in (first, flow)],
            now,
            opinions.unflatten(0, (number, ahead)),
            chances.unflatten(0, (number, ahead)),
            shift.unflatten(0, (number, ahead)),
        )


def _repeat(x: Tensor, times: int) -> Tensor:
    """[n, ...] -> [n * times, ...], each `times` in a row."""
    return x[:, None].expand(-1, times, *x.shape[1:]).flatten(0, 1)
