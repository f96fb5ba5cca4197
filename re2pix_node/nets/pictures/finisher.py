"""The finisher: mixes the drawn picture and the moved picture, pixel by pixel.

The small autoencoder blurs, and motion alone smears content that was hidden. The finisher sees both pictures and
how much their latents disagree, and learns which one to trust where. It adds nothing of its own: that would blur too.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.pictures.vae import CELL

PATCH = 2  # pixels along one side of one pixel of the network
COARSE = CELL // PATCH  # of those along one side of a latent
SCALES = 3  # scales of contrast, each half the size of the one before
LEAST_CONTRAST = 1e-4
TRUST = 1.0  # initial logit of the share of the moved picture


@dataclass(frozen=True)
class FinisherOptions:
    latents: int  # channels of a latent
    width: int = 32
    blocks: int = 2
    coarse: int = 64  # width of the layers on the latents


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.layers(x))


class Finisher(nn.Module):
    def __init__(self, options: FinisherOptions) -> None:
        super().__init__()
        self.options = o = options
        pixels = 3 * PATCH**2
        self.judge = nn.Sequential(
            nn.Conv2d(3 * o.latents, o.coarse, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(o.coarse, o.coarse, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(o.coarse, o.width // 2 * COARSE**2, 1),
            nn.PixelShuffle(COARSE),
        )
        self.enter = nn.Conv2d(2 * pixels + o.width // 2, o.width, 3, padding=1)
        self.blocks = nn.Sequential(*[_Block(o.width) for _ in range(o.blocks)])
        self.leave = nn.Conv2d(o.width, PATCH**2, 3, padding=1)
        # It starts as the same mixture everywhere, mostly the moved picture.
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, drawn: Tensor, moved: Tensor, drawn_picture: Tensor, moved_picture: Tensor) -> Tensor:
        """Latents [n, latents, h, w] and planes [n, 3, H, W] of each -> planes."""
        judged = self.judge(torch.cat([drawn, moved, (drawn - moved).square()], 1))
        pictures = [functional.pixel_unshuffle(picture, PATCH) for picture in (drawn_picture, moved_picture)]
        trust = self.leave(self.blocks(torch.relu(self.enter(torch.cat([*pictures, judged], 1)))))
        share = torch.sigmoid(functional.pixel_shuffle(trust, PATCH) + TRUST)
        return drawn_picture + share * (moved_picture - drawn_picture)


def contrast(planes: Tensor) -> list[Tensor]:
    """How much planes [n, 3, H, W] vary around each pixel, at three scales: blurring reduces it."""
    found = []
    for _ in range(SCALES):
        fine = planes - _mean(planes, 2)
        found.append((_mean(fine.square(), 3) + LEAST_CONTRAST).sqrt())
        planes = functional.avg_pool2d(planes, 2)
    return found


def _mean(x: Tensor, reach: int) -> Tensor:
    return functional.avg_pool2d(functional.pad(x, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)
