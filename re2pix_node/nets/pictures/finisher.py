"""The last touch: of what was drawn and of the picture moved on, to each place what suits it.

An autoencoder this small blurs, and motion alone smears what was hidden. The finisher sees both pictures, and in the
latents how far they disagree, and learns which to believe where. It draws nothing of its own, or it would blur as well.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.pictures.vae import CELL

PATCH = 2  # pixels along one side of what it takes for a pixel
COARSE = CELL // PATCH  # of those along one side of a latent
SCALES = 3  # of contrast, each half the one before
LEAST_CONTRAST = 1e-4
TRUST = 1.0  # logit of the share of the moved picture, to begin with


@dataclass(frozen=True)
class FinisherOptions:
    latents: int  # channels of a latent
    width: int = 32
    blocks: int = 2
    coarse: int = 64  # width of what looks at the latents


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
        # It begins as the same mixture everywhere, most of it the moved picture.
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, drawn: Tensor, moved: Tensor, drawn_picture: Tensor, moved_picture: Tensor) -> Tensor:
        """Latents [n, latents, h, w] and planes [n, 3, H, W] of each -> planes."""
        judged = self.judge(torch.cat([drawn, moved, (drawn - moved).square()], 1))
        pictures = [functional.pixel_unshuffle(picture, PATCH) for picture in (drawn_picture, moved_picture)]
        trust = self.leave(self.blocks(torch.relu(self.enter(torch.cat([*pictures, judged], 1)))))
        share = torch.sigmoid(functional.pixel_shuffle(trust, PATCH) + TRUST)
        return drawn_picture + share * (moved_picture - drawn_picture)


def contrast(planes: Tensor) -> list[Tensor]:
    """How much planes [n, 3, H, W] vary around each pixel, at three scales: what blurring takes away."""
    found = []
    for _ in range(SCALES):
        fine = planes - _mean(planes, 2)
        found.append((_mean(fine.square(), 3) + LEAST_CONTRAST).sqrt())
        planes = functional.avg_pool2d(planes, 2)
    return found


def _mean(x: Tensor, reach: int) -> Tensor:
    return functional.avg_pool2d(functional.pad(x, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)
