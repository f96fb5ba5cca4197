"""The loss: features, exact flow where it is known, labels, and the head's own labels where none are true.

Where no flow is known, flow is judged by how well it moves the frame before onto the newest one. Labels of now should
move with the picture: what the head says of a place must not change from frame to frame.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.nets.features import SUB
from re2pix_node.nets.mover.forecaster import MoverForecast, MoverForecaster
from re2pix_node.nets.warp import warp
from re2pix_node.training.mover.augment import Chunk

ROUGH = 0.1  # weight of the flow's roughness
BETA = 0.1  # where SmoothL1 changes from squared to absolute, as in evaluation


@dataclass(frozen=True)
class LossShares:
    """Weights of the terms of the loss."""

    features: float = 1.0
    moved: float = 0.4
    flow: float = 0.1
    motion: float = 0.12
    now: float = 0.3
    opinion: float = 0.15
    labels: float = 0.3
    agreement: float = 0.6  # where no labels are true
    past: float = 0.4  # where no flow is known
    steady: float = 0.5


def windows(x: Tensor, size: int) -> Tensor:
    """[n, L, ...] -> [n * (L - size + 1), size, ...]"""
    return torch.cat([x[:, start : start + size] for start in range(x.shape[1] - size + 1)])


class MoverLoss(nn.Module):
    weights: Tensor

    def __init__(self, net: MoverForecaster, weights: Tensor, shares: LossShares) -> None:
        super().__init__()
        self.net, self.shares = net, shares
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, features: Tensor, chunk: Chunk) -> tuple[Tensor, dict[str, Tensor]]:
        """Features [n, L, h, w, C + carried] of the chunk's pictures."""
        o, s = self.net.options, self.shares
        ahead, size = len(o.horizons), o.context + len(o.horizons)
        frames = windows(features, size)
        labels = windows(chunk.labels, size).long()
        now = o.context - 1
        said = self.net(frames[:, : o.context])
        future = frames[:, o.context :, ..., : o.channels].permute(0, 1, 4, 2, 3).float()
        parts = {
            "features": functional.smooth_l1_loss(said.features.float(), future, beta=BETA),
            "moved": functional.smooth_l1_loss(said.moved.float(), future, beta=BETA),
        }
        flows, seen = windows(chunk.flows, size), windows(chunk.seen, size)
        past = torch.stack([flows[:, now - back, 0] for back in range(2)], 1)
        past_seen = torch.stack([seen[:, now - back, 0] for back in range(2)], 1)
        cell = flows.shape[-1] // o.width
        first, second = said.flows
        parts["flow"] = 0.5 * _apart(first, past, past_seen, cell) + _apart(second, past, past_seen, cell)
        coming = torch.stack([flows[:, now + k, k - 1] for k in range(1, ahead + 1)], 1)
        coming_seen = torch.stack([seen[:, now + k, k - 1] for k in range(1, ahead + 1)], 1)
        parts["motion"] = _apart(said.displacements, coming, coming_seen, cell)
        parts["motion"] = parts["motion"] + 0.5 * _apart(said.shift, coming, coming_seen, cell // 2) / 2
        parts["now"] = self._named(said.now, labels[:, now])
        parts["opinion"] = self._named(said.opinions.flatten(0, 1), labels[:, o.context :].flatten(0, 1))
        parts["labels"] = self._named(said.labels.flatten(0, 1), labels[:, o.context :].flatten(0, 1))
        parts["agreement"] = self._agreement(said, frames, chunk.exact.repeat(len(frames) // len(chunk.exact)))
        parts["past"] = self._past(said, frames, ~seen.flatten(1).any(1))
        parts["steady"] = _steady(said, len(chunk.exact))
        loss = sum(getattr(s, name) * part for name, part in parts.items())
        assert isinstance(loss, Tensor)
        return loss, {name: part.detach() for name, part in parts.items()}

    def _named(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy at the size of the labels."""
        logits = functional.interpolate(logits.float(), labels.shape[-2:], mode="bilinear")
        apart = functional.cross_entropy(logits, labels, self.weights, ignore_index=UNLABELLED, reduction="sum")
        known = labels != UNLABELLED
        return apart / self.weights[labels[known]].sum().clamp(min=1)

    def _agreement(self, said: MoverForecast, frames: Tensor, exact: Tensor) -> Tensor:
        """Without true labels, the forecast's labels should equal the head's labels of the true future frame."""
        o = self.net.options
        if exact.all():
            return said.now.new_zeros(())
        truth = frames[~exact, o.context :].flatten(0, 1)
        with torch.no_grad():
            wanted = self.net.read(truth).float().softmax(1)
        mixed = -(wanted * said.labels[~exact].flatten(0, 1)).sum(1).mean()
        return mixed + 0.5 * functional.cross_entropy(said.opinions[~exact].flatten(0, 1).float(), wanted)

    def _past(self, said: MoverForecast, frames: Tensor, unknown: Tensor) -> Tensor:
        """How far the frame before, moved along the newest flow, is from the newest frame."""
        if not unknown.any():
            return said.now.new_zeros(())
        o, flow = self.net.options, said.flows[1][unknown, 0]
        planes = frames[unknown, o.context - 2 : o.context].permute(0, 1, 4, 2, 3)
        before, now = planes[:, 0], planes[:, 1]
        features = functional.smooth_l1_loss(warp(before[:, : o.channels], flow), now[:, : o.channels], beta=BETA)
        seen, was = (functional.pixel_shuffle(x[:, o.channels :], SUB) for x in (now, before))
        fine = SUB * functional.interpolate(flow, scale_factor=float(SUB), mode="bilinear")
        picture = functional.smooth_l1_loss(warp(was, fine), seen, beta=BETA)
        # Flow may change where the picture does.
        edges = functional.avg_pool2d(seen, SUB)
        rough = sum((_slope(flow, axis) * torch.exp(-3 * _slope(edges, axis))).mean() for axis in (2, 3))
        return features + picture + ROUGH * rough


def _slope(x: Tensor, axis: int) -> Tensor:
    """Mean over the channels of the absolute difference of neighbours."""
    return x.diff(dim=axis).abs().mean(1, keepdim=True)


def _steady(said: MoverForecast, chunks: int) -> Tensor:
    """How much the labels of now change from one window to the next, along the flow between them."""
    sure = said.now.float().softmax(1)
    before, now = sure[:-chunks], sure[chunks:]  # windows of the same chunks, one frame apart
    flow = said.flows[1][chunks:, 0].detach()
    fine = 2 * functional.interpolate(flow, scale_factor=2.0, mode="bilinear")
    return (warp(before, fine) - now).square().sum(1).mean()


def _apart(said: Tensor, flow: Tensor, seen: Tensor, cell: int) -> Tensor:
    """Mean distance in cells, [n, K, 2, h, w] against flow in pixels [n, K, 2, H, W], where it was seen."""
    seen = seen.float()[:, :, None]
    count = functional.avg_pool2d(seen.flatten(0, 1), cell)
    mean = functional.avg_pool2d((flow * seen).flatten(0, 1), cell) / count.clamp(min=1e-3) / cell
    # A partly visible cell is not used: its pixels may belong to several objects.
    known = (count > 0.4).float()
    off = ((said.flatten(0, 1).float() - mean).square().sum(1, keepdim=True) + 1e-3).sqrt()
    return (off.clamp(max=20) * known).sum() / known.sum().clamp(min=1)
