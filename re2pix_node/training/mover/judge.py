"""Figures of a forecaster during training, on drives that are not used for training."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.common.metrics import accuracy, mean_iou
from re2pix_node.nets.mover.forecaster import MoverForecaster
from re2pix_node.training.mover.augment import Chunk
from re2pix_node.training.mover.loss import BETA

# Labels of now, the head's on the forecast features, both opinions together, and the head's on the true future.
ROWS = ("copy", "opinion", "forecast", "oracle")


@dataclass
class Sums:
    features: Tensor  # [3, K] SmoothL1: forecast, copied, moved
    pixels: Tensor  # [K] error of flow
    tables: Tensor  # [rows, K, classes, classes + 1], true class by predicted class
    changed: Tensor  # [K, classes, classes + 1], the forecast where the class changes
    samples: int = 0


def empty_sums(classes: int, ahead: int, device: torch.device) -> Sums:
    table = torch.zeros(ahead, classes, classes + 1, device=device, dtype=torch.float64)
    features = torch.zeros(3, ahead, device=device, dtype=torch.float64)
    return Sums(features, torch.zeros_like(features[0]), torch.stack([table] * len(ROWS)), table.clone())


def add(sums: Sums, net: MoverForecaster, frames: Tensor, chunk: Chunk) -> None:
    """Add one sample: encoded frames [1, T + K, h, w, C + carried], their labels and their flow."""
    o = net.options
    now = o.context - 1
    said = net(frames[:, : o.context])
    planes = frames[..., : o.channels].permute(0, 1, 4, 2, 3)
    for k in range(len(o.horizons)):
        index = o.context + k
        truth = planes[:, index]
        rows = (said.features[:, k].float(), planes[:, now], said.moved[:, k].float())
        for row, features in enumerate(rows):
            sums.features[row, k] += functional.smooth_l1_loss(features, truth, beta=BETA)
        sums.pixels[k] += _pixels_off(said.displacements[:, k], chunk.flows[:, index, k], chunk.seen[:, index, k])
        true = chunk.labels[:, index].long()
        opinions = (said.now, said.opinions[:, k], said.labels[:, k], net.read(frames[:, index]))
        for row, logits in enumerate(opinions):
            _count(sums.tables[row, k], logits, true)
        still = chunk.labels[:, now] == chunk.labels[:, index]
        _count(sums.changed[k], said.labels[:, k], true.masked_fill(still, UNLABELLED))
    sums.samples += 1


def figures(sums: Sums) -> dict[str, list[float]]:
    said, copied, moved = sums.features
    miou = {
        name: mean_iou(np.asarray(table.cpu().numpy(), float)) for name, table in zip(ROWS, sums.tables, strict=True)
    }
    gap = (miou["forecast"] - miou["copy"]) / np.maximum(miou["oracle"] - miou["copy"], 1e-6)
    found = {
        "of copying": (said / copied).tolist(),
        "moved": (moved / copied).tolist(),
        "flow, pixels": (sums.pixels / max(sums.samples, 1)).tolist(),
        **{name: values.tolist() for name, values in miou.items()},
        "gap": gap.tolist(),
        "changed": accuracy(sums.changed.cpu().numpy()).tolist(),
    }
    return {name: [round(value, 4) for value in values] for name, values in found.items()}


def _pixels_off(said: Tensor, flow: Tensor, seen: Tensor) -> Tensor:
    """In pixels of the picture, which is twice the size of the flow."""
    full = functional.interpolate(said.float(), flow.shape[-2:], mode="bilinear") * (flow.shape[-1] / said.shape[-1])
    apart = 2 * (full - flow).square().sum(1).sqrt()
    return (apart * seen).sum() / seen.sum().clamp(min=1)


def _count(table: Tensor, logits: Tensor, true: Tensor) -> None:
    said = functional.interpolate(logits.float(), true.shape[-2:], mode="bilinear").argmax(1)
    known = true != UNLABELLED
    classes, width = table.shape
    pairs = torch.bincount(true[known] * width + said[known], minlength=classes * width)
    table += pairs.view(classes, width)
