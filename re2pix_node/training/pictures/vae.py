"""Trains the autoencoder of the renderer on crops."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import build
from re2pix_node.common.wording import one_line
from re2pix_node.errors import BundleError, TrainingError
from re2pix_node.nets.backbone import Backbone
from re2pix_node.nets.pictures.vae import CELL, KINDS, PictureCoder, Vae, VaeOptions, build_vae, planes_of, unlikeness
from re2pix_node.training.cached_samples import Draw
from re2pix_node.training.loop import Batch, Sums
from re2pix_node.training.pictures.clip_pictures import Pictures
from re2pix_node.training.run_file import RunFile

FRAMES = 200  # number of frames from which latents are normalised


def vae_options(spec: RunFile) -> VaeOptions:
    try:
        return build(VaeOptions, spec.vae.model, "vae.model", spec.name)
    except BundleError as error:
        raise TrainingError(str(error)) from None


def initial_vae(spec: RunFile) -> Vae:
    """A new autoencoder, or the one that the run names."""
    if not spec.vae.pretrained:
        return build_vae(vae_options(spec))
    folder = Path(spec.vae.pretrained)
    try:
        return _pretrained(folder)
    except TrainingError:
        raise
    except Exception as error:  # a damaged or foreign file can raise any error
        raise TrainingError(f"{folder}: no autoencoder of diffusers can be read from it ({one_line(error)})") from None


def _pretrained(folder: Path) -> Vae:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if kind not in KINDS:
        raise TrainingError(f"{folder}: is of the kind {kind}; known are {', '.join(KINDS)}")
    loaded: tuple[Vae, dict[str, Any]] = KINDS[kind].from_pretrained(
        folder, local_files_only=True, output_loading_info=True
    )
    vae, info = loaded
    if missing := sorted(info["missing_keys"]):  # diffusers only warns and invents them
        raise TrainingError(f"{folder}: lacks {len(missing)} weights, {missing[0]} is the first: copy it again, whole")
    channels, back = vae.config.in_channels, vae.config.out_channels
    if not channels == back == 3 * math.isqrt(channels // 3) ** 2:
        raise TrainingError(f"{folder}: takes {channels} channels and gives {back}: must be 3 * n * n both ways")
    cells = PictureCoder(vae).raw_latents(torch.zeros(1, 3, 8 * CELL, 8 * CELL)).shape[2:]
    if tuple(cells) != (8, 8):
        raise TrainingError(f"{folder}: has {64 // cells[1]} pixels a latent, must have {CELL}")
    return vae


class Crops:
    """Square crops of single frames, chosen only by seed and step."""

    def __init__(self, pictures: Sequence[Pictures], weights: Sequence[float], side: int, seed: int) -> None:
        height, width = pictures[0].shape[1:3]
        self._pictures, self._side = pictures, side
        self._room = np.array([height - side + 1, width - side + 1])
        self.draw = Draw(np.array([len(each) for each in pictures], np.int64), np.array(weights), seed)

    def random(self, step: int, batch: int) -> Tensor:
        """u8 [n, side, side, 3]"""
        corners = np.random.default_rng([self.draw.seed, 2, step]).random((batch, 2)) * self._room
        cut = [
            self._pictures[clip][number, y : y + self._side, x : x + self._side]
            for (clip, number), (y, x) in zip(self.draw.random(step, batch), np.floor(corners).astype(int), strict=True)
        ]
        return torch.from_numpy(np.stack(cut))

    def spread(self, count: int) -> Iterator[Tensor]:
        """u8 [1, H, W, 3]: whole frames, always the same."""
        for clip, number in self.draw.spread(count):
            yield torch.from_numpy(self._pictures[clip][number : number + 1].copy())


class VaeLoss(nn.Module):
    """The autoencoder, and the difference between its output and the picture."""

    def __init__(self, spec: RunFile, backbone: Backbone) -> None:
        super().__init__()
        self.net = PictureCoder(initial_vae(spec))
        self._noise, self._looks = spec.vae.noise, spec.vae.looks
        self._backbone = [backbone]  # in a list, so that it is not trained

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        planes = planes_of(pictures).contiguous(memory_format=torch.channels_last)
        latents = self.net.raw_latents(planes)
        # A renderer's latents are never exact: with this noise the decoder learns to tolerate errors.
        strength = self._noise * torch.rand(len(latents), 1, 1, 1, device=latents.device)
        spoilt = latents + strength * torch.randn_like(latents)
        said = self.net.from_raw(spoilt)
        pixels = functional.l1_loss(said.float(), planes)
        looks = unlikeness(self._backbone[0].to(planes.device), said, planes)
        figures = {"pixels": pixels.detach(), "looks": looks.detach(), "size": latents.detach().std()}
        return pixels + self._looks * looks, figures


class VaeTask:
    name = "vae"

    def __init__(self, spec: RunFile, train: Crops, val: Crops, backbone: Backbone) -> None:
        self.model = VaeLoss(spec, backbone)
        self._settings = spec.vae
        self._train, self._val, self._backbone = train, val, backbone

    def batch(self, step: int, rank: int, world: int) -> Batch:
        return {"pictures": self._train.random(step, self._settings.batch)[rank::world]}

    def val_batches(self, rank: int, world: int) -> Iterator[Batch]:
        for number, frame in enumerate(self._val.spread(self._settings.val_batches)):
            if number % world == rank:
                yield {"pictures": frame}

    def empty(self) -> Sums:
        return {"psnr": torch.zeros(()), "looks": torch.zeros(()), "frames": torch.zeros(())}

    def measure(self, model: nn.Module, batch: Batch) -> Sums:
        assert isinstance(model, VaeLoss)
        planes = planes_of(batch["pictures"])
        said = model.net.from_raw(model.net.raw_latents(planes)).float().clamp(-1, 1)
        psnr = -10 * torch.log10((said - planes).square().mean() / 4)
        looks = unlikeness(self._backbone.to(planes.device), said, planes)
        return {"psnr": psnr, "looks": looks, "frames": torch.ones(())}

    def summary(self, sums: Sums) -> dict[str, float]:
        """Means over frames."""
        return {name: float(sums[name] / sums["frames"]) for name in ("psnr", "looks")}

    @torch.no_grad()
    def judged(self) -> dict[str, float]:
        """The figures of the present autoencoder."""
        sums = self.empty()
        for batch in self.val_batches(0, 1):
            for name, value in self.measure(self.model, batch).items():
                sums[name] += value
        return self.summary(sums)

    @torch.no_grad()
    def normalise(self) -> None:
        """Measure mean and spread of the latents on training frames."""
        net = self.model.net.eval()
        device = net.mean.device
        latents = torch.cat([net.raw_latents(planes_of(frame.to(device))) for frame in self._train.spread(FRAMES)])
        net.mean.copy_(latents.mean((0, 2, 3))[:, None, None])
        net.std.copy_(latents.std((0, 2, 3))[:, None, None])
