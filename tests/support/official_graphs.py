"""The graphs of the published configuration of DINO-Foresight, with random weights: ViT-B/14 and 1152 wide layers."""

import os
from pathlib import Path

import torch

from re2pix_node.nets.dino_foresight.bundle import HORIZONS
from re2pix_node.nets.dino_foresight.graphs import DinoEncoder, DinoForecaster
from re2pix_node.nets.dino_foresight.official import CHANNELS, official_parts
from re2pix_node.nets.onnx_export import FORECAST_OUTPUTS, exported

# Of the forecaster. The published one has twelve, all alike: all of them take minutes and 6 GiB.
LAYERS = int(os.environ.get("OFFICIAL_LAYERS", "2"))


def write_official_graph(path: Path, graph: str) -> None:
    """`encode` or `forecast`; what the one does not need of the other is left small."""
    torch.manual_seed(0)
    encode, grid = graph == "encode", (16, 32)
    parts = official_parts(12 if encode else 4, 1 if encode else LAYERS, grid)
    if encode:
        frame = torch.zeros(1, *parts.image_size, 3, dtype=torch.uint8)
        model = exported(DinoEncoder(parts), {"frame": frame}, ["features"])
    else:
        context = {f"context_{i}": torch.randn(1, *grid, CHANNELS) for i in range(parts.transformer.context)}
        model = exported(DinoForecaster(parts, HORIZONS), context, FORECAST_OUTPUTS)
    path.write_bytes(model.SerializeToString())
