"""Trains a head: from the features of one frame to its labels, with a calibrated confidence."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.common.metrics import LEVELS, calibration_error, mean_iou
from re2pix_node.errors import TrainingError
from re2pix_node.footage.label_space import LabelSpace
from re2pix_node.nets.light_head import LightHead
from re2pix_node.training.cached_samples import LabelledSamples
from re2pix_node.training.loop import Batch, Sums
from re2pix_node.training.run_file import RunFile

CALIBRATION_PIXELS = 400_000


def light_head(spec: RunFile, classes: int) -> LightHead:
    try:
        return LightHead(spec.pca.channels, classes, **spec.head.model)
    except TypeError as error:
        raise TrainingError(f"{spec.name}: head.model: {error}: see nets/light_head.py") from None


class HeadLoss(nn.Module):
    """The head, and its cross entropy."""

    weights: Tensor

    def __init__(self, spec: RunFile, weights: Tensor) -> None:
        super().__init__()
        self.net = light_head(spec, len(weights))
        self._channels = spec.pca.channels
        self.register_buffer("weights", weights, persistent=False)

    def logits(self, features: Tensor, size: torch.Size) -> Tensor:
        """Logits at the size of the labels."""
        logits: Tensor = self.net(features[..., : self._channels]).float()
        if logits.shape[-2:] == size:
            return logits
        return functional.interpolate(logits, size, mode="bilinear")

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.logits(features, labels.shape[-2:])
        apart = functional.cross_entropy(logits, labels, self.weights, ignore_index=UNLABELLED, reduction="sum")
        known = labels != UNLABELLED
        loss = apart / self.weights[labels[known]].sum().clamp(min=1e-6)
        return loss, {"right": (logits.detach().argmax(1)[known] == labels[known]).float().mean()}


class HeadTask:
    name = "head"

    def __init__(self, spec: RunFile, train: LabelledSamples, val: LabelledSamples, space: LabelSpace) -> None:
        self._spec, self._settings = spec, spec.head
        self._train, self._val = train, val
        self._classes = len(space.ids)
        self.temperature = 1.0
        self.model = HeadLoss(spec, class_weights(train, self._classes, spec.head.rare))

    def batch(self, step: int, rank: int, world: int) -> Batch:
        chosen = self._train.draw.random(step, self._settings.batch)
        features, labels = self._train.batch(chosen[rank::world])
        return {"features": features.float(), "labels": labels}

    def val_batches(self, rank: int, world: int) -> Iterator[Batch]:
        size = self._settings.batch // world
        chosen = self._val.draw.spread(self._settings.val_batches * self._settings.batch)[rank::world]
        for start in range(0, len(chosen), size):
            features, labels = self._val.batch(chosen[start : start + size])
            yield {"features": features.float(), "labels": labels}

    def empty(self) -> Sums:
        return {
            "confusion": torch.zeros(self._classes, self._classes, dtype=torch.int64),
            "confidence": torch.zeros(LEVELS, 2, dtype=torch.int64),
        }

    def measure(self, model: nn.Module, batch: Batch) -> Sums:
        assert isinstance(model, HeadLoss)
        logits = model.logits(batch["features"], batch["labels"].shape[-2:])
        known = batch["labels"] != UNLABELLED
        true = batch["labels"][known]
        chances, said = (logits / self.temperature).softmax(1).max(1)
        level = (chances[known] * (LEVELS - 1)).round().long()
        pairs = torch.bincount(true * self._classes + said[known], minlength=self._classes**2)
        levels = torch.bincount(level * 2 + (said[known] == true).long(), minlength=2 * LEVELS)
        return {"confusion": pairs.view(self._classes, -1), "confidence": levels.view(LEVELS, 2)}

    def summary(self, sums: Sums) -> dict[str, float]:
        confusion = np.pad(sums["confusion"].numpy().astype(float), ((0, 0), (0, 1)))
        return {
            "miou": float(mean_iou(confusion)),
            "accuracy": float(np.trace(confusion) / max(confusion.sum(), 1)),
            "ece": float(calibration_error(sums["confidence"].numpy().astype(float))),
        }

    @torch.no_grad()
    def calibrate(self, device: torch.device) -> None:
        """Choose the temperature by which logits are divided, so that confidence matches accuracy."""
        self.model.eval()
        rng = torch.Generator().manual_seed(0)
        batches = self._settings.val_batches
        logits, true = [], []
        for batch in self.val_batches(0, 1):
            labels = batch["labels"].flatten()
            known = (labels != UNLABELLED).nonzero()[:, 0]
            known = known[torch.randperm(len(known), generator=rng)[: max(1, CALIBRATION_PIXELS // batches)]]
            found = self.model.logits(batch["features"].to(device), batch["labels"].shape[-2:]).cpu()
            logits.append(found.permute(0, 2, 3, 1).flatten(0, 2)[known])
            true.append(labels[known])
        self.temperature = best_temperature(torch.cat(logits), torch.cat(true))


def best_temperature(logits: Tensor, true: Tensor) -> float:
    """The temperature with the least negative log-likelihood of the truth, which is convex in 1 / temperature.

    It is 1 without labelled pixels. TrainingError if the logits are not finite.
    """
    if not len(true):
        return 1.0
    if not torch.isfinite(logits).all():
        raise TrainingError("the head gives logits with NaN or infinity: train it again, with a lower learning rate")
    hit = logits.gather(1, true[:, None])[:, 0].mean()
    low, high = -4.0, 4.0  # of log(1 / temperature)
    for _ in range(30):
        middle = (low + high) / 2
        chances = (logits * float(np.exp(middle))).softmax(1)
        if (chances * logits).sum(1).mean() < hit:
            low = middle
        else:
            high = middle
    return float(np.exp(-(low + high) / 2))


def class_weights(samples: LabelledSamples, classes: int, rare: float) -> Tensor:
    """Weights with mean 1 over the pixels; classes that never occur are ignored."""
    counts = torch.zeros(classes)
    if rare == 0:
        return torch.ones(classes)
    for chosen in samples.draw.spread(400):
        labels = samples.batch([chosen])[1]
        counts += torch.bincount(labels[labels != UNLABELLED], minlength=classes)
    share = counts / counts.sum()
    weights = torch.where(share > 0, share.clamp(min=1e-5) ** -rare, torch.zeros(()))
    return weights / (weights * share).sum()
