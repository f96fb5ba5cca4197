"""Calibrates the confidence of forecasts: the farther ahead, the less reliable is the head's output."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED, TimeSpec
from re2pix_node.footage.label_space import LabelSpace
from re2pix_node.training.cached_samples import ForecastSamples
from re2pix_node.training.head import best_temperature

SAMPLES = 64
PIXELS = 4000  # pixels of each moment of a sample


@torch.no_grad()
def forecast_temperatures(
    reader: nn.Module, time: TimeSpec, samples: ForecastSamples, space: LabelSpace, now: float
) -> list[float]:
    """`now`, the head's own temperature, and one for each horizon, chosen on the true labels of the future frames.

    `reader` is a family's, such as nets.forecaster.HeadReader. A horizon without labels gets the temperature of the
    horizon before it.
    """
    context = time.context
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in time.horizons]
    rng = np.random.default_rng(0)
    for place in samples.draw.spread(SAMPLES):
        labels = samples.labels(place, space)[context:]
        if all(mask is None for mask in labels):
            continue
        frames = samples.batch([place])[:, :context].float()
        for k, (mask, logits) in enumerate(zip(labels, reader(*frames.unbind(1)).logits[1:], strict=True)):
            if mask is not None:
                found[k].append(_some_pixels(logits, mask, rng))
    temperatures = [now]
    for pairs in found:
        if any(len(true) for _, true in pairs):
            logits, true = (torch.cat(part) for part in zip(*pairs, strict=True))
            temperatures.append(best_temperature(logits, true))
        else:
            temperatures.append(temperatures[-1])
    return temperatures


def _some_pixels(logits: Tensor, mask: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """[classes, h, w] and labels [H', W'] -> logits [n, classes] and classes [n] of some labelled pixels."""
    enlarged = functional.interpolate(logits[None].float(), mask.shape, mode="bilinear")[0].flatten(1)
    known = np.flatnonzero(mask != UNLABELLED)
    picked = rng.choice(known, min(PIXELS, len(known)), replace=False)
    return enlarged[:, torch.from_numpy(picked)].T, torch.from_numpy(mask.reshape(-1)[picked]).long()
