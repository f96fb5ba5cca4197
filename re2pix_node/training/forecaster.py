"""Trains the forecaster: from the features of a context to those of the frames after it."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import build
from re2pix_node.errors import BundleError, TrainingError
from re2pix_node.nets.features import CARRIED, SUB
from re2pix_node.nets.light_head import agreement_loss
from re2pix_node.nets.nano.forecaster import NanoForecaster, NanoOptions
from re2pix_node.nets.nano.motion import warp
from re2pix_node.training.cached_samples import ForecastSamples
from re2pix_node.training.loop import Batch, Sums
from re2pix_node.training.run_file import RunFile

BETA = 0.1  # where SmoothL1 changes from squared to absolute, as in evaluation


def nano_options(spec: RunFile) -> NanoOptions:
    backbone = spec.backbone
    if not backbone.picture:
        raise TrainingError(f"{spec.name}: backbone.picture: the forecaster sees motion in the picture: set it to true")
    known = {
        "channels": spec.pca.channels,
        "carried": CARRIED,
        "height": backbone.height // backbone.cell,
        "width": backbone.width // backbone.cell,
        "context": spec.time.context,
        "horizons": list(spec.time.horizons),
    }
    try:
        return build(NanoOptions, {**spec.forecaster.model, **known}, "forecaster.model", spec.name)
    except BundleError as error:
        raise TrainingError(str(error)) from None


class ForecastLoss(nn.Module):
    """The forecaster, and its distance from the true future."""

    def __init__(self, spec: RunFile, head: nn.Module | None) -> None:
        super().__init__()
        self.net = NanoForecaster(nano_options(spec))
        self._motion, self._agreement = spec.forecaster.motion, spec.forecaster.agreement
        self._head = [head] if head is not None else []  # in a list, so that it is not trained

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """[n, T + K, h, w, channels + carried]"""
        o = self.net.options
        context, truth = frames[:, : o.context], frames[:, o.context :]
        said, displacements = self.net(context)
        future = truth[..., : o.channels].float()
        loss = functional.smooth_l1_loss(said.float(), future, beta=BETA)
        figures = {"features": loss.detach()}
        if self._motion:
            moved = _moved(context[:, -1], displacements)
            motion = functional.smooth_l1_loss(moved, truth.float(), beta=BETA)
            figures["motion"] = motion.detach()
            loss = loss + self._motion * motion
        for head in self._head:
            agreement = agreement_loss(head.to(said.device), said.flatten(0, 1), future.flatten(0, 1))
            figures["agreement"] = agreement.detach()
            loss = loss + self._agreement * agreement
        return loss, figures


def _moved(newest: Tensor, displacements: Tensor) -> Tensor:
    """Move [n, h, w, C + carried] along [n, K, 2, h, w] -> [n, K, h, w, C + carried]; the picture by pixels."""
    planes = newest.permute(0, 3, 1, 2).float()
    channels = planes.shape[1] - CARRIED
    grey = functional.pixel_shuffle(planes[:, channels:], SUB)
    moved = []
    for displacement in displacements.float().unbind(1):
        fine = functional.interpolate(displacement, scale_factor=float(SUB), mode="bilinear") * SUB
        picture = functional.pixel_unshuffle(warp(grey, fine), SUB)
        moved.append(torch.cat([warp(planes[:, :channels], displacement), picture], 1))
    return torch.stack(moved, 1).permute(0, 1, 3, 4, 2)


class ForecastTask:
    name = "forecaster"

    def __init__(self, spec: RunFile, train: ForecastSamples, val: ForecastSamples, head: nn.Module | None) -> None:
        self.model = ForecastLoss(spec, head)
        self._spec, self._settings = spec, spec.forecaster
        self._train, self._val = train, val
        self._horizons = len(spec.time.horizons)

    def batch(self, step: int, rank: int, world: int) -> Batch:
        chosen = self._train.draw.random(step, self._settings.batch)
        return {"frames": self._train.batch(chosen[rank::world]).float()}

    def val_batches(self, rank: int, world: int) -> Iterator[Batch]:
        size = self._settings.batch // world
        chosen = self._val.draw.spread(self._settings.val_batches * self._settings.batch)[rank::world]
        for start in range(0, len(chosen), size):
            yield {"frames": self._val.batch(chosen[start : start + size]).float()}

    def empty(self) -> Sums:
        return {"said": torch.zeros(self._horizons), "copied": torch.zeros(self._horizons)}

    def measure(self, model: nn.Module, batch: Batch) -> Sums:
        assert isinstance(model, ForecastLoss)
        o = model.net.options
        context, truth = batch["frames"][:, : o.context], batch["frames"][:, o.context :, ..., : o.channels]
        said, _ = model.net(context)
        return {"said": _apart(said.float(), truth), "copied": _apart(context[:, -1:, ..., : o.channels], truth)}

    def summary(self, sums: Sums) -> dict[str, float]:
        """SmoothL1 divided by that of copying the newest frame: below 1 is better than copying."""
        ratios = (sums["said"] / sums["copied"]).tolist()
        by_horizon = {f"h{step}": ratio for step, ratio in zip(self._spec.time.horizons, ratios, strict=True)}
        return {"of copying": float(sums["said"].sum() / sums["copied"].sum()), **by_horizon}


def _apart(said: Tensor, truth: Tensor) -> Tensor:
    """Sum of SmoothL1 over samples, by horizon."""
    apart = functional.smooth_l1_loss(said.expand_as(truth), truth, beta=BETA, reduction="none")
    return apart.mean((2, 3, 4)).sum(0)
