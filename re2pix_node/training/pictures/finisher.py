"""Trains the finisher on crops of pictures that the trained renderer draws, as in use."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import build
from re2pix_node.errors import BundleError, TrainingError
from re2pix_node.nets.backbone import Backbone
from re2pix_node.nets.forecaster import Forecaster
from re2pix_node.nets.pictures.finisher import Finisher, FinisherOptions, contrast
from re2pix_node.nets.pictures.renderer import PictureTransformer, moved_on, sample
from re2pix_node.nets.pictures.vae import CELL, PictureCoder, planes_of, unlikeness
from re2pix_node.training.loop import Batch, Sums
from re2pix_node.training.pictures.renderer import RenderSamples
from re2pix_node.training.run_file import RunFile

CHANCE = 4  # a stream of random numbers besides those of the samples


def finisher_options(spec: RunFile, latents: int) -> FinisherOptions:
    try:
        return build(FinisherOptions, {**spec.finisher.model, "latents": latents}, "finisher.model", spec.name)
    except BundleError as error:
        raise TrainingError(str(error)) from None


class FinishLoss(nn.Module):
    """The finisher, and the distance of its pictures from the true ones in pixels, looks and contrast."""

    ahead: Tensor

    def __init__(
        self,
        spec: RunFile,
        coder: PictureCoder,
        renderer: PictureTransformer,
        forecaster: Forecaster,
        backbone: Backbone,
    ) -> None:
        super().__init__()
        self.net = Finisher(finisher_options(spec, coder.latents))
        self._looks, self._sharp, self._cells = spec.finisher.looks, spec.finisher.sharp, spec.finisher.crop // CELL
        self._sampling, self._guidance = spec.renderer.sampling, spec.renderer.guidance
        self._frozen = coder, renderer, forecaster, backbone  # in a tuple, so that they are not trained
        self.register_buffer("ahead", torch.tensor(spec.time.horizons, dtype=torch.float32), persistent=False)

    def forward(self, corner: Tensor, **moment: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """`corner` [n, 2]: the upper left corner of the crop, in cells, down and to the right."""
        parts = self.given(corner, self._cells, **moment)
        *shown, true = (part.contiguous(memory_format=torch.channels_last) for part in parts)
        said = self.net(*shown)
        pixels = functional.l1_loss(said.float(), true)
        looks = self.looks(said, true)
        blur = blurred(said.float(), true)
        figures = {"pixels": pixels, "looks": looks, "blur": blur, "moved": functional.l1_loss(shown[3], true)}
        loss = pixels + self._looks * looks + self._sharp * blur
        return loss, {name: figure.detach() for name, figure in figures.items()}

    def looks(self, said: Tensor, true: Tensor) -> Tensor:
        return unlikeness(self._frozen[3].to(said.device), said, true)

    @torch.no_grad()
    def given(
        self,
        corner: Tensor,
        cells: int | None,
        context: Tensor,
        pictures: Tensor,
        horizon: Tensor,
        noise: Tensor,
        **_: Tensor,
    ) -> tuple[Tensor, ...]:
        """The finisher's inputs and the true picture: square crops of this many cells, or the whole."""
        coder, renderer, forecaster = self._frozen[:3]
        for module in (coder, renderer, forecaster):
            module.to(pictures.device)
        features, displacements = forecaster(context)
        each = torch.arange(len(horizon), device=horizon.device)
        now, then = pictures.unbind(1)
        moved_picture = moved_on(now, displacements[each, horizon])
        moved = coder.encode(moved_picture).float()
        ahead = self.ahead[horizon]
        drawn = sample(renderer, noise, features[each, horizon].float(), moved, ahead, self._sampling, self._guidance)
        latents = [_parts(x.float(), corner, cells, 1) for x in (drawn, moved)]
        planes = [_parts(x, corner, cells, CELL) for x in (moved_picture, planes_of(then))]
        return (*latents, coder.decode(latents[0]).float(), *planes)


def blurred(said: Tensor, true: Tensor) -> Tensor:
    """The difference in contrast from the true pictures. All other losses are smallest for a blur."""
    apart = [(a - b).abs().mean() for a, b in zip(contrast(said), contrast(true), strict=True)]
    return torch.stack(apart).mean()


def _parts(x: Tensor, corner: Tensor, cells: int | None, size: int) -> Tensor:
    """[n, C, H, W] -> [n, C, cells * size, cells * size] at each sample's corner; without `cells` the whole."""
    if cells is None:
        return x
    side = cells * size
    return torch.stack(
        [each[:, y : y + side, x : x + side] for each, (y, x) in zip(x, (corner * size).tolist(), strict=True)]
    )


class FinishTask:
    name = "finisher"

    def __init__(self, spec: RunFile, train: RenderSamples, val: RenderSamples, model: FinishLoss) -> None:
        self.model = model
        self._spec, self._settings = spec, spec.finisher
        self._train, self._val = train, val
        height, width = spec.backbone.height, spec.backbone.width
        self._grid = height // CELL, width // CELL
        if self._settings.crop > min(height, width):
            raise TrainingError(
                f"{spec.name}: finisher.crop: must be at most {min(height, width)}, is {self._settings.crop}"
            )

    def batch(self, step: int, rank: int, world: int) -> Batch:
        rng = np.random.default_rng([self._spec.seed, CHANCE, step])
        number = self._settings.batch
        horizons = rng.integers(len(self._spec.time.horizons), size=number)
        room = np.array(self._grid) - self._settings.crop // CELL + 1
        corner = np.floor(rng.random((number, 2)) * room).astype(np.int64)
        noise = self._noise(rng, number)
        chosen = self._train.draw.random(step, number)[rank::world]
        own = {"corner": torch.from_numpy(corner[rank::world]), "noise": noise[rank::world]}
        return own | self._train.futures(chosen, horizons[rank::world].tolist())

    def val_batches(self, rank: int, world: int) -> Iterator[Batch]:
        """The last horizon of single samples, without cropping."""
        chosen = self._val.draw.spread(self._settings.val_batches)
        last = len(self._spec.time.horizons) - 1
        for number, place in enumerate(chosen):
            if number % world == rank:
                noise = self._noise(np.random.default_rng([CHANCE, number]), 1)
                whole = {"corner": torch.zeros(1, 2, dtype=torch.int64), "noise": noise}
                yield whole | self._val.futures([place], [last])

    def empty(self) -> Sums:
        names = [f"{what} {of}" for what in ("pixels", "looks", "blur") for of in ("finished", "moved")]
        return {name: torch.zeros(()) for name in names}

    def measure(self, model: nn.Module, batch: Batch) -> Sums:
        assert isinstance(model, FinishLoss)
        *shown, true = model.given(cells=None, **batch)
        found = {}
        for of, planes in (("finished", model.net(*shown).float()), ("moved", shown[3])):
            found[f"pixels {of}"] = functional.l1_loss(planes, true)
            found[f"looks {of}"] = model.looks(planes, true)
            found[f"blur {of}"] = blurred(planes, true)
        return found

    def summary(self, sums: Sums) -> dict[str, float]:
        """Errors divided by those of the moved picture."""
        return {what: float(sums[f"{what} finished"] / sums[f"{what} moved"]) for what in ("pixels", "looks", "blur")}

    def _noise(self, rng: np.random.Generator, number: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal((number, self.model.net.options.latents, *self._grid), np.float32))
