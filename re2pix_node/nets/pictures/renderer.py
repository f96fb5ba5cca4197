"""The renderer: a diffusion transformer over latents of pictures, conditioned on predicted features.

Flow matching in the convention of `diffusers`: at `sigma` from 1 (noise) to 0 (picture), noisy = (1 - sigma) clean +
sigma noise. The network predicts the clean latents, which give the velocity.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.forecaster import Forecaster
from re2pix_node.nets.pictures.finisher import Finisher
from re2pix_node.nets.pictures.vae import CELL, PictureCoder, planes_of
from re2pix_node.nets.warp import warp

SPREAD = 0.7  # approximate spread of the truth around the latents of the moved picture; their own is 1
LEAST_SIGMA = 0.05  # the velocities of nearly clean latents are mostly noise


@dataclass(frozen=True)
class RendererOptions:
    channels: int  # of the features
    latents: int  # channels of a latent
    height: int  # of the grid, in cells
    width: int
    hidden: int = 192
    depth: int = 4
    heads: int = 6

    def __post_init__(self) -> None:
        if self.height % 2 or self.width % 2:
            raise ValueError(f"four cells make a token: the grid must be even, is {self.width} x {self.height}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} cannot be shared by {self.heads} heads")


class PictureBlock(nn.Module):
    """Attention, and a network with a depthwise 7x7 for each token; noise level and horizon modulate both (adaLN)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.expand = nn.Linear(width, 3 * width)
        self.contract = nn.Linear(3 * width, width)
        self.steer = nn.Linear(width, 6 * width)
        # Each block starts as the identity.
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)

    def forward(self, x: Tensor, moment: Tensor) -> Tensor:
        """[n, h, w, width] and [n, width], the same out."""
        scale, shift, gate, scale2, shift2, gate2 = self.steer(moment)[:, None, None].chunk(6, -1)
        x = x + gate * self._attend(self.norm(x) * (1 + scale) + shift)
        y = self.norm(x) * (1 + scale2) + shift2
        y = y + self.depthwise(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = x + gate2 * self.contract(functional.gelu(self.expand(y)))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        number, height, columns, width = x.shape
        tokens = self.qkv(x.flatten(1, 2)).view(number, height * columns, 3, self.heads, width // self.heads)
        query, key, value = tokens.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        out: Tensor = self.out(mixed.reshape(number, height, columns, width))
        return out


class PictureTransformer(nn.Module):
    def __init__(self, options: RendererOptions) -> None:
        super().__init__()
        self.options = o = options
        # Early fusion: a token has the noisy latents, the features, and the latents of the moved picture.
        self.enter = nn.Conv2d(2 * o.latents + o.channels, o.hidden, 2, stride=2)
        self.place = nn.Parameter(torch.zeros(1, o.height // 2, o.width // 2, o.hidden))
        self.moment = nn.Sequential(nn.Linear(32, o.hidden), nn.SiLU(), nn.Linear(o.hidden, o.hidden), nn.SiLU())
        self.blocks = nn.ModuleList([PictureBlock(o.hidden, o.heads) for _ in range(o.depth)])
        self.norm = nn.LayerNorm(o.hidden)
        self.leave = nn.Linear(o.hidden, 4 * o.latents)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, noisy: Tensor, sigma: Tensor, features: Tensor, moved: Tensor, ahead: Tensor) -> Tensor:
        """The clean latents, [n, latents, h, w].

        features: [n, h, w, C], zeros for samples without; moved: the latents of the moved newest picture; sigma: [n];
        ahead: [n], how far ahead, in spacings of the context.
        """
        fused = torch.cat([noisy, features.permute(0, 3, 1, 2), moved], 1)
        moment = self.moment(torch.cat([waves(sigma), waves(ahead / 8)], 1))
        x = self.enter(fused).permute(0, 2, 3, 1) + self.place
        for block in self.blocks:
            x = block(x, moment)
        change = functional.pixel_shuffle(self.leave(self.norm(x)).permute(0, 3, 1, 2), 2)
        share = sigma.view(-1, 1, 1, 1)
        return likely(noisy, share, moved) + share * change


def likely(noisy: Tensor, sigma: Tensor, moved: Tensor) -> Tensor:
    """The most likely clean latents, given only that they lie around those of the moved picture."""
    keep = 1 - sigma
    gain = SPREAD**2 * keep / (SPREAD**2 * keep**2 + sigma**2)
    return moved + gain * (noisy - keep * moved)


def waves(x: Tensor) -> Tensor:
    """[n] from 0 to 1 -> [n, 16]"""
    angles = x[:, None].float() * (math.pi * 2 ** torch.arange(8, device=x.device))
    return torch.cat([angles.sin(), angles.cos()], 1)


def sigmas(steps: int) -> list[float]:
    """The noise levels at which a sampler with this many steps stops."""
    return [1 - step / steps for step in range(steps + 1)]


def sample(
    net: nn.Module, noise: Tensor, features: Tensor, moved: Tensor, ahead: Tensor, steps: int, guidance: float
) -> Tensor:
    """Euler's method. `guidance` above 1 moves away from the picture without features."""
    latents, number = noise, len(noise)
    if guidance != 1:
        features = torch.cat([features, torch.zeros_like(features)])
        moved, ahead = torch.cat([moved, moved]), torch.cat([ahead, ahead])
    for sigma, following in zip(sigmas(steps)[:-1], sigmas(steps)[1:], strict=True):
        moment = torch.full_like(ahead, sigma)
        if guidance == 1:
            clean = net(latents, moment, features, moved, ahead)
        else:
            told, untold = net(torch.cat([latents, latents]), moment, features, moved, ahead).split(number)
            clean = untold + guidance * (told - untold)
        latents = clean + (following / sigma) * (latents - clean)
    return latents


def moved_on(now: Tensor, displacement: Tensor) -> Tensor:
    """Move u8 [n, H, W, 3] along [n, 2, h, w], in cells -> planes [n, 3, H, W]."""
    pixels = functional.interpolate(displacement.float(), scale_factor=float(CELL), mode="bilinear") * CELL
    return warp(planes_of(now), pixels)


class RenderGraph(nn.Module):
    """render.onnx: predicted features, the newest picture and the encoded context -> the picture of that future.

    The motion comes from the forecaster's motion network on the same context; the rest of the forecaster is not here.
    """

    ahead: Tensor

    def __init__(
        self,
        net: PictureTransformer,
        coder: PictureCoder,
        finisher: Finisher,
        forecaster: Forecaster,
        steps: int,
        guidance: float,
    ) -> None:
        super().__init__()
        self.net, self.coder, self.finisher, self.forecaster = net, coder, finisher, forecaster
        self.steps, self.guidance = steps, guidance
        self.register_buffer("ahead", torch.tensor(forecaster.options.horizons, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor, frame: Tensor, horizon: Tensor, noise: Tensor, *context: Tensor) -> Tensor:
        """[1, h, w, C], u8 [1, H, W, 3], which horizon from 0 on [1], [1, latents * h * w] -> [1, H, W, 3].

        0 is black and 255 white. The output is not bytes, because bytes would hide NaN and infinity.
        """
        displacements = self.forecaster(torch.stack(context, 1)).displacements
        chosen = (torch.arange(len(self.ahead), device=horizon.device) == horizon[:, None]).float()
        picture = moved_on(frame, (displacements * chosen[:, :, None, None, None]).sum(1))
        moved = self.coder.encode(picture)
        ahead = (self.ahead * chosen).sum(1)
        drawn = sample(self.net, noise.view(moved.shape), features, moved, ahead, self.steps, self.guidance)
        planes: Tensor = self.finisher(drawn, moved, self.coder.decode(drawn), picture)
        # OpenVINO's Clip and Relu turn NaN into numbers, so NaN is carried around them.
        return ((planes + 1) * 127.5).permute(0, 2, 3, 1) + (drawn - drawn).sum()
