"""Trains the renderer: from the features of a future and the pictures before it to the picture of that future."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from re2pix_node.bundle.manifest import TimeSpec, build
from re2pix_node.errors import BundleError, TrainingError
from re2pix_node.nets.forecaster import Forecaster
from re2pix_node.nets.pictures.renderer import LEAST_SIGMA, PictureTransformer, RendererOptions, moved_on, sample
from re2pix_node.nets.pictures.vae import CELL, PictureCoder, planes_of
from re2pix_node.training.cached_samples import Chosen, ForecastSamples
from re2pix_node.training.feature_cache import CachedClip
from re2pix_node.training.loop import Batch, Sums
from re2pix_node.training.pictures.clip_pictures import Pictures
from re2pix_node.training.run_file import DataEntry, RendererSpec, RunFile

CHANCE = 3  # a stream of random numbers besides those of the samples


def renderer_options(spec: RunFile, latents: int) -> RendererOptions:
    if spec.backbone.cell != CELL:
        raise TrainingError(
            f"{spec.name}: backbone.cell: a latent covers {CELL} pixels, a cell of features must too, is "
            f"{spec.backbone.cell}"
        )
    known = {
        "channels": spec.pca.channels,
        "latents": latents,
        "height": spec.backbone.height // spec.backbone.cell,
        "width": spec.backbone.width // spec.backbone.cell,
    }
    try:
        return build(RendererOptions, {**spec.renderer.model, **known}, "renderer.model", spec.name)
    except BundleError as error:
        raise TrainingError(str(error)) from None


class RenderSamples(ForecastSamples):
    """Contexts and futures with their pictures."""

    def __init__(
        self,
        entries: Sequence[DataEntry],
        clips: Sequence[Sequence[CachedClip]],
        pictures: Sequence[Pictures],
        time: TimeSpec,
        seed: int,
    ) -> None:
        super().__init__(entries, clips, time, seed)
        self._pictures, self._time = pictures, time

    def futures(self, chosen: Chosen, horizons: Sequence[int]) -> Batch:
        """One horizon of each sample: features of context and future, and the pictures of both moments."""
        context = self._time.context
        moments = [self._moments[clip][number] for clip, number in chosen]
        then = [context + horizon for horizon in horizons]
        frames = self.batch(chosen)
        pictures = [
            self._pictures[clip][[moment[context - 1], moment[index]]]
            for (clip, _), moment, index in zip(chosen, moments, then, strict=True)
        ]
        return {
            "context": frames[:, :context].float(),
            "future": frames[torch.arange(len(chosen)), then].float(),
            "pictures": torch.from_numpy(np.stack(pictures)),
            "horizon": torch.tensor(horizons),
        }


class RenderLoss(nn.Module):
    """The renderer, and the error of its velocities."""

    ahead: Tensor

    def __init__(self, spec: RunFile, coder: PictureCoder, forecaster: Forecaster) -> None:
        super().__init__()
        self.net = PictureTransformer(renderer_options(spec, coder.latents))
        self._channels = spec.pca.channels
        self._frozen = coder, forecaster  # in a tuple, so that they are not trained
        self.register_buffer("ahead", torch.tensor(spec.time.horizons, dtype=torch.float32), persistent=False)

    def forward(
        self, predicted: Tensor, kept: Tensor, sigma: Tensor, noise: Tensor, **moment: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`predicted` [n]: whether the forecaster's features replace the true ones; `kept` [n]: how many channels."""
        features, clean, moved = self.given(**moment)
        features = torch.where(predicted[:, None, None, None], features, moment["future"][..., : self._channels])
        features = features * (torch.arange(self._channels, device=kept.device) < kept[:, None, None, None])
        share = sigma.view(-1, 1, 1, 1)
        noisy = (1 - share) * clean + share * noise
        said = self.net(noisy, sigma, features, moved, self.ahead[moment["horizon"]])
        apart = (said.float() - clean) / share.clamp(min=LEAST_SIGMA)
        return apart.square().mean(), {"moved": (moved - clean).square().mean()}

    @torch.no_grad()
    def given(self, context: Tensor, pictures: Tensor, horizon: Tensor, **_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The forecaster's features; the latents of the true picture and of the moved picture."""
        coder, forecaster = self._frozen[0].to(pictures.device), self._frozen[1].to(pictures.device)
        said, displacements = forecaster(context)
        each = torch.arange(len(horizon), device=horizon.device)
        now, then = pictures.unbind(1)
        moved = moved_on(now, displacements[each, horizon])
        clean, moved = torch.split(coder.encode(torch.cat([planes_of(then), moved])).float(), len(horizon))
        return said[each, horizon].float(), clean, moved


class RenderTask:
    name = "renderer"

    def __init__(
        self,
        spec: RunFile,
        train: RenderSamples,
        val: RenderSamples,
        coder: PictureCoder,
        forecaster: Forecaster,
    ) -> None:
        self.model = RenderLoss(spec, coder, forecaster)
        self._spec, self._settings, self._coder = spec, spec.renderer, coder
        self._train, self._val = train, val
        grid = self.model.net.options
        self._shape = coder.latents, grid.height, grid.width

    def batch(self, step: int, rank: int, world: int) -> Batch:
        settings = self._settings
        rng = np.random.default_rng([self._spec.seed, CHANCE, step])
        number = settings.batch
        horizons = rng.integers(len(self._spec.time.horizons), size=number)
        chances = {
            "predicted": rng.random(number) < predicted_share(settings, step),
            "kept": kept_channels(settings, self._spec.pca.channels, rng.random((2, number))),
            "sigma": 1 - rng.random(number, np.float32),
            "noise": rng.standard_normal((number, *self._shape), np.float32),
        }
        chosen = self._train.draw.random(step, number)[rank::world]
        own = {name: torch.from_numpy(values[rank::world]) for name, values in chances.items()}
        return own | self._train.futures(chosen, horizons[rank::world].tolist())

    def val_batches(self, rank: int, world: int) -> Iterator[Batch]:
        """The last horizon, from predicted features, as in use."""
        size = self._settings.batch // world
        chosen = self._val.draw.spread(self._settings.val_batches * self._settings.batch)[rank::world]
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size]
            noise = np.random.default_rng([CHANCE, start]).standard_normal((len(part), *self._shape), np.float32)
            last = len(self._spec.time.horizons) - 1
            yield self._val.futures(part, [last] * len(part)) | {"noise": torch.from_numpy(noise)}

    def empty(self) -> Sums:
        return {"rendered": torch.zeros(()), "moved": torch.zeros(())}

    def measure(self, model: nn.Module, batch: Batch) -> Sums:
        """Squared error of the rendered latents, and of those of the moved picture."""
        assert isinstance(model, RenderLoss)
        features, clean, moved = model.given(**batch)
        said = sample(model.net, batch["noise"], features, moved, model.ahead[batch["horizon"]], 1, 1.0)
        return {
            "rendered": (said.float() - clean).square().mean((1, 2, 3)).sum(),
            "moved": (moved - clean).square().mean((1, 2, 3)).sum(),
        }

    def summary(self, sums: Sums) -> dict[str, float]:
        """One step from noise predicts the mean of all possible pictures: its error shows how much was learnt."""
        return {"of moving on": float(sums["rendered"] / sums["moved"])}


def predicted_share(settings: RendererSpec, step: int) -> float:
    """Share of samples with the forecaster's features: it rises linearly from 0."""
    return settings.predicted * min(1.0, step / (settings.rise * settings.steps)) if settings.predicted else 0.0


def kept_channels(settings: RendererSpec, channels: int, chances: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of feature channels that each sample keeps, the most important first."""
    which, how_many = chances
    kept = np.full(len(which), channels)
    nested = which < settings.dropped + settings.nested
    kept[nested] = 1 + np.floor(how_many[nested] * channels)
    kept[which < settings.dropped] = 0
    return kept
