"""The graphs of the published configuration of DINO-Foresight, with random weights: ViT-B/14 and 1152 wide layers."""

from pathlib import Path

import torch

from re2pix_node.nets.dino_foresight import CLASSES, DinoForesight, Encoder, Forecaster
from re2pix_node.nets.dinov2 import DinoV2
from re2pix_node.nets.dpt import DptHead
from re2pix_node.nets.masked_transformer import MaskedTransformer
from re2pix_node.nets.onnx_export import FORECAST_OUTPUTS, exported
from re2pix_node.nets.pca import Basis

CHANNELS, JOINED = 1152, 4 * 768
HORIZONS = (1, 2, 3)


def write_official_graph(path: Path, graph: str, depth: int = 12, grid: tuple[int, int] = (16, 32)) -> None:
    """`encode` or `forecast`; `depth` is how many of the 12 blocks or layers there are, one like the other."""
    torch.manual_seed(0)
    encode = graph == "encode"
    parts = _parts(depth if encode else 4, 1 if encode else depth, grid)
    if encode:
        frame = torch.zeros(1, *parts.image_size, 3, dtype=torch.uint8)
        model = exported(Encoder(parts), {"frame": frame}, ["features"])
    else:
        context = {f"context_{i}": torch.randn(1, *grid, CHANNELS) for i in range(parts.transformer.context)}
        model = exported(Forecaster(parts, HORIZONS), context, FORECAST_OUTPUTS)
    path.write_bytes(model.SerializeToString())


def _parts(blocks: int, layers: int, grid: tuple[int, int]) -> DinoForesight:
    zeros, ones = torch.zeros(JOINED).double(), torch.ones(JOINED).double()
    basis = Basis(zeros, ones, zeros, torch.randn(CHANNELS, JOINED).double() / JOINED**0.5)
    transformer = MaskedTransformer(grid, CHANNELS, CHANNELS, layers)
    torch.nn.init.normal_(transformer.maskvit["fc_out"].weight, std=0.02)  # zeros would be folded away
    taken = tuple(blocks * (i + 1) // 4 - 1 for i in range(4))
    parts = DinoForesight(DinoV2(depth=blocks), taken, basis, transformer, DptHead(CLASSES), grid)
    for module in (parts.backbone, parts.transformer, parts.head):
        module.eval()
    return parts
