"""The head: logits of classes on the fine grid, from features and the edges of the picture."""

from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.nets.mover.flow import FINE


class EdgeHead(nn.Module):
    def __init__(self, channels: int, classes: int, width: int = 128, fine: int = 32) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 1)
        self.around = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.mix = nn.Conv2d(width, width, 1)
        self.wide = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.contract = nn.Conv2d(2 * width, width, 1)
        self.split = nn.Conv2d(width, 4 * fine, 1)
        self.edges = nn.Conv2d(FINE, fine, 3, padding=1)
        self.join = nn.Conv2d(fine, fine, 3, padding=1, groups=fine)
        self.out = nn.Conv2d(fine, classes, 1)

    def forward(self, features: Tensor, picture: Tensor) -> Tensor:
        """[n, channels, h, w] and [n, FINE, 2 h, 2 w] -> [n, classes, 2 h, 2 w]."""
        x = functional.gelu(self.enter(features))
        x = x + functional.gelu(self.mix(self.around(x)))
        x = x + self.contract(functional.gelu(self.expand(self.wide(x))))
        x = functional.gelu(functional.pixel_shuffle(self.split(x), 2) + self.edges(picture))
        out: Tensor = self.out(x + functional.gelu(self.join(x)))
        return out
