"""The small bundle's head: features of one moment -> logits of its classes at twice the grid."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class LightHead(nn.Module):
    def __init__(self, channels: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 1)
        self.around = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.mix = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, 4 * classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[n, h, w, channels] -> [n, classes, 2 h, 2 w]."""
        x = functional.gelu(self.enter(features.permute(0, 3, 1, 2)))
        x = x + functional.gelu(self.mix(self.around(x)))
        return functional.pixel_shuffle(self.out(x), 2)


def agreement_loss(head: nn.Module, forecast: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy between the head's output on a forecast and on the true future; needs no labels."""
    with torch.no_grad():
        wanted = head(truth).softmax(1)
    return functional.cross_entropy(head(forecast), wanted)
