"""The end of every head inside a graph: from logits or probabilities to masks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED

SANE = 1e30  # logits below this in sum are finite; only `<` is false for NaN in every engine


class Masks(nn.Module):
    """Logits [N, classes, h, w] -> labels and confidence, u8 [N, H', W'].

    Labels are the manifest's class ids, in the order of the logits. Confidence is the probability of the label's class,
    0 to 255; a temperature above 1 reduces the confidence. There is one temperature for each of the N moments, or one
    for all. Pixels with NaN or infinity in a logit are unlabelled (255) with confidence 0.
    """

    ids: Tensor
    temperatures: Tensor

    def __init__(self, ids: Sequence[int], size: tuple[int, int], temperatures: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        if not all(0 < temperature < math.inf for temperature in temperatures):
            raise ValueError(f"temperatures must be above 0 and finite, are {list(temperatures)}")
        self.size = size
        self.register_buffer("temperatures", torch.tensor(temperatures).view(-1, 1, 1, 1), persistent=False)
        self.ids_are_indices = list(ids) == list(range(len(ids)))
        # Looked up as floats: every engine can gather floats, few can gather bytes.
        self.register_buffer("ids", torch.tensor(ids, dtype=torch.float32), persistent=False)

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        # Always in full precision: half precision overflows in the exponential.
        logits = logits.float()
        # A sum passes on NaN and infinity in every engine; maxima of some engines skip NaN.
        totals = logits.sum(1, keepdim=True)
        if logits.shape[-2:] != self.size:
            logits = functional.interpolate(logits, self.size, mode="bilinear", align_corners=False)
            totals = functional.interpolate(totals, self.size, mode="bilinear", align_corners=False)
        finite = totals[:, 0].abs() < SANE
        winners = logits.argmax(1)
        labels = winners.float() if self.ids_are_indices else self.ids[winners]
        chances = (logits / self.temperatures).softmax(1).amax(1)
        labels = torch.where(finite, labels, torch.full_like(labels, UNLABELLED))
        confidence = torch.where(finite, (chances * 255).round(), torch.zeros_like(chances))
        # Bytes: TensorRT 10 fails on graphs whose output is argmax's int64.
        return labels.to(torch.uint8), confidence.to(torch.uint8)


class ChanceMasks(nn.Module):
    """Probabilities [N, classes, h, w] -> labels and confidence, u8 [N, H', W'], in half the time of `Masks`.

    Labels are the indices of the classes. The winner's probability to the power of `powers`, one for each of the N
    moments, is its confidence: a power above 1 reduces it.
    """

    powers: Tensor

    def __init__(self, size: tuple[int, int], powers: Sequence[float]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("powers", torch.tensor(powers).view(-1, 1, 1), persistent=False)

    def forward(self, chances: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        """`totals` [N, 1, h, w] are sums of the logits that the chances are made of: the softmax of some engines hides
        NaN."""
        chances, totals = chances.float(), totals.float()
        if chances.shape[-2:] != self.size:
            chances = functional.interpolate(chances, self.size, mode="bilinear", align_corners=False)
            totals = functional.interpolate(totals, self.size, mode="bilinear", align_corners=False)
        finite = totals[:, 0].abs() < SANE
        # Not `pow`: OpenVINO takes ten times as long for it.
        best = (self.powers * chances.amax(1).clamp(min=1e-6).log()).exp()
        labels = chances.argmax(1).float()
        labels = torch.where(finite, labels, torch.full_like(labels, UNLABELLED))
        confidence = torch.where(finite, (best * 255).round(), torch.zeros_like(best))
        return labels.to(torch.uint8), confidence.to(torch.uint8)
