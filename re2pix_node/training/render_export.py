"""From a run with a trained renderer to its graph.

python -m re2pix_node.training.render_export RUN -o render.onnx
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from re2pix_node.errors import Re2pixError
from re2pix_node.nets.features import CARRIED
from re2pix_node.nets.onnx_export import exported
from re2pix_node.nets.render_vae import CELL
from re2pix_node.nets.renderer import RenderGraph
from re2pix_node.partial import write_beside
from re2pix_node.training.render_steps import read_renderer, read_vae
from re2pix_node.training.run_folder import RunFolder, read_run_folder
from re2pix_node.training.steps import read_forecaster


def render_graph(run: RunFolder) -> RenderGraph:
    coder, spec = read_vae(run), run.spec.renderer
    return RenderGraph(read_renderer(run, coder), coder, read_forecaster(run)[0], spec.sampling, spec.guidance).eval()


def blank_inputs(graph: RenderGraph) -> dict[str, Tensor]:
    """What the graph takes, by name."""
    o = graph.net.options
    context = torch.zeros(1, o.height, o.width, o.channels + CARRIED)
    return {
        "features": torch.zeros(1, o.height, o.width, o.channels),
        "frame": torch.zeros(1, o.height * CELL, o.width * CELL, 3, dtype=torch.uint8),
        "horizon": torch.zeros(1),
        "noise": torch.zeros(1, o.latents, o.height, o.width),
        **{f"context_{i}": context.clone() for i in range(graph.forecaster.options.context)},
    }


def export_renderer(run: RunFolder, output: Path, replace: bool = False) -> None:
    with write_beside(output, replace) as partial:
        graph = render_graph(run)
        partial.write_bytes(exported(graph, blank_inputs(graph), ["image"]).SerializeToString())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Writes the graph that draws pictures of forecasts.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run with a trained renderer")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="F.onnx")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    options = parser.parse_args(arguments)
    try:
        export_renderer(read_run_folder(options.run), options.output, options.force)
    except Re2pixError as error:
        print(f"render_export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
