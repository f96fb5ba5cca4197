"""Trains and validates a forecaster on encoded footage, for all families that learn from it."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.features import CARRIED
from re2pix_node.nets.forecaster import Forecaster
from re2pix_node.training.cached_samples import ForecastSamples
from re2pix_node.training.encoded_footage import footage
from re2pix_node.training.family import ForecasterTraining
from re2pix_node.training.loop import Batch, Sums
from re2pix_node.training.run_file import RunFile
from re2pix_node.training.run_folder import RunFolder

BETA = 0.1  # where SmoothL1 changes from squared to absolute, as in evaluation


def from_run(spec: RunFile) -> dict[str, Any]:
    """The options of a forecaster that follow from the run."""
    backbone = spec.backbone
    return {
        "channels": spec.pca.channels,
        "carried": CARRIED if backbone.picture else 0,
        "height": backbone.height // backbone.cell,
        "width": backbone.width // backbone.cell,
        "context": spec.time.context,
        "horizons": list(spec.time.horizons),
    }


class ForecasterLoss(nn.Module):
    """A forecaster and its loss: frames [n, T + K, h, w, channels + carried] -> the loss, and figures for the log."""

    net: Forecaster

    def __init__(self, net: Forecaster) -> None:
        super().__init__()
        self.net = net

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def forecaster_training(run: RunFolder, loss: Callable[[], ForecasterLoss]) -> ForecasterTraining:
    """The task of a training on all footage of the run. `loss` is created under the run's seed."""
    spec = run.spec
    data, val_data, clips, val_clips, note = footage(run)
    samples = ForecastSamples(data, clips, spec.time, spec.seed)
    val = ForecastSamples(val_data, val_clips, spec.time, spec.seed)
    torch.manual_seed(spec.seed)
    model = loss()
    return ForecasterTraining(ForecastTask(spec, samples, val, model), model.net, note)


class ForecastTask:
    name = "forecaster"

    def __init__(self, spec: RunFile, train: ForecastSamples, val: ForecastSamples, model: ForecasterLoss) -> None:
        self.model = model
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
        assert isinstance(model, ForecasterLoss)
        o = model.net.options
        context, truth = batch["frames"][:, : o.context], batch["frames"][:, o.context :, ..., : o.channels]
        said: Tensor = model.net(context).features
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
