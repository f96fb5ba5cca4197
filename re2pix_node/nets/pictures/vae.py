"""Pictures to latents, one vector for each 8 x 8 pixels, and back: an autoencoder of `diffusers`."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.backbone import Backbone

CELL = 8  # pixels of the picture along one side of a latent
KINDS: dict[str, Any] = {"AutoencoderTiny": AutoencoderTiny, "AutoencoderKL": AutoencoderKL}


class Vae(Protocol):
    """What we use of these; diffusers has no types that mypy could read."""

    config: Any

    def to(self, *, memory_format: torch.memory_format) -> Any: ...

    def encode(self, x: Tensor, return_dict: bool) -> tuple[Any, ...]: ...

    def decode(self, z: Tensor, return_dict: bool) -> tuple[Any, ...]: ...


@dataclass(frozen=True)
class VaeOptions:
    width: int = 48
    latents: int = 16  # channels of a latent
    patch: int = 2  # pixels along one side of one pixel of the network: full size is slow and not needed
    encoder_blocks: tuple[int, ...] = (0, 1, 2)  # from the picture down
    decoder_blocks: tuple[int, ...] = (2, 2, 1)  # from the latents up

    def __post_init__(self) -> None:
        stages = len(self.encoder_blocks)
        if len(self.decoder_blocks) != stages or self.patch * 2 ** (stages - 1) != CELL:
            raise ValueError(
                f"patch {self.patch} and {stages} encoder_blocks make {self.patch * 2 ** (stages - 1)} pixels a "
                f"latent, must be {CELL}, and decoder_blocks must be as many"
            )


def build_vae(options: VaeOptions) -> Vae:
    vae: Vae = KINDS["AutoencoderTiny"](
        in_channels=3 * options.patch**2,
        out_channels=3 * options.patch**2,
        encoder_block_out_channels=(options.width,) * len(options.encoder_blocks),
        decoder_block_out_channels=(options.width,) * len(options.decoder_blocks),
        latent_channels=options.latents,
        num_encoder_blocks=options.encoder_blocks,
        num_decoder_blocks=options.decoder_blocks,
    )
    return vae


def vae_facts(vae: Vae) -> dict[str, Any]:
    """The facts from which `vae_of` builds it again."""
    wanted = inspect.signature(type(vae)).parameters
    return {"kind": type(vae).__name__, **{name: value for name, value in vae.config.items() if name in wanted}}


def vae_of(facts: Mapping[str, Any]) -> Vae:
    vae: Vae = KINDS[facts["kind"]](**{name: value for name, value in facts.items() if name != "kind"})
    return vae


class PictureCoder(nn.Module):
    """The autoencoder with normalisation: latents of mean 0 and variance 1 per channel, pictures as bytes."""

    mean: Tensor
    std: Tensor

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.vae = vae.to(memory_format=torch.channels_last)
        self.patch = math.isqrt(vae.config.in_channels // 3)
        self.latents = int(vae.config.latent_channels)
        self.register_buffer("mean", torch.zeros(self.latents, 1, 1))
        self.register_buffer("std", torch.ones(self.latents, 1, 1))

    def raw_latents(self, planes: Tensor) -> Tensor:
        """[n, 3, H, W] from -1 to 1 -> [n, latents, h, w], not normalised."""
        found = self.vae.encode(functional.pixel_unshuffle(planes, self.patch), return_dict=False)[0]
        return found if isinstance(found, Tensor) else found.mode()  # AutoencoderKL returns a distribution

    def from_raw(self, latents: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.vae.decode(latents, return_dict=False)[0], self.patch)

    def encode(self, planes: Tensor) -> Tensor:
        return (self.raw_latents(planes) - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """[n, latents, h, w] -> [n, 3, H, W] from about -1 to 1."""
        return self.from_raw(latents * self.std + self.mean)


def planes_of(pictures: Tensor) -> Tensor:
    """u8 [n, H, W, 3] -> [n, 3, H, W] from -1 to 1."""
    # Cast before permuting: TensorRT refuses to transpose uint8.
    return pictures.float().permute(0, 3, 1, 2) / 127.5 - 1


def pictures_of(planes: Tensor) -> Tensor:
    """[n, 3, H, W] from -1 to 1 -> u8 [n, H, W, 3], rounded."""
    return ((planes.float() + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def unlikeness(backbone: Backbone, said: Tensor, truth: Tensor) -> Tensor:
    """The difference of two pictures [n, 3, H, W] in the first layers of a backbone: 0 to 4."""
    one, other = (backbone.glance(backbone.normalised((planes + 1) * 127.5)) for planes in (said, truth))
    apart = [
        (functional.normalize(a, dim=1, eps=1e-4) - functional.normalize(b, dim=1, eps=1e-4)).square().sum(1).mean()
        for a, b in zip(one, other, strict=True)
    ]
    return torch.stack(apart).mean()
