"""From a run with a trained renderer to its render graph."""

import torch
from torch import Tensor

from re2pix_node.nets.pictures.renderer import RenderGraph
from re2pix_node.nets.pictures.vae import CELL
from re2pix_node.training.pictures.steps import read_finisher, read_motion, read_renderer, read_vae
from re2pix_node.training.run_folder import RunFolder


def render_graph(run: RunFolder) -> RenderGraph:
    coder, spec = read_vae(run), run.spec.renderer
    net, finisher, forecaster = read_renderer(run, coder), read_finisher(run, coder), read_motion(run)
    return RenderGraph(net, coder, finisher, forecaster, spec.sampling, spec.guidance).eval()


def blank_inputs(graph: RenderGraph) -> dict[str, Tensor]:
    """Inputs of the right shape for the graph, by name."""
    o = graph.net.options
    seen = graph.forecaster.options
    context = torch.zeros(1, o.height, o.width, seen.channels + seen.carried)
    return {
        "features": torch.zeros(1, o.height, o.width, o.channels),
        "frame": torch.zeros(1, o.height * CELL, o.width * CELL, 3, dtype=torch.uint8),
        "horizon": torch.zeros(1),
        "noise": torch.zeros(1, o.latents * o.height * o.width),
        **{f"context_{i}": context.clone() for i in range(seen.context)},
    }
