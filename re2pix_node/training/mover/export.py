"""Exports the result of `learn` as a bundle; its encode graph stays that of the old bundle.

python -m re2pix_node.training.mover.export OUT/weights.pt PACK BUNDLE --drives VAL --version 0.3.0 -o NEW
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.bundle.writer import write_bundle
from re2pix_node.footage.exact_drives import ExactDrive
from re2pix_node.nets.masks import Masks
from re2pix_node.nets.mover.forecaster import MoverForecaster
from re2pix_node.nets.onnx_export import EVERY, FORECAST_OUTPUTS, exported, round_weights
from re2pix_node.training.head import best_temperature
from re2pix_node.training.mover.learn import CONTEXT, SAMPLE, network
from re2pix_node.training.mover.pack import PackedEncoder, read_encoder
from re2pix_node.training.stored import read_stored

APART, PIXELS = 24, 4000  # frames between the samples for calibration, and pixels of each moment


class MoverGraph(nn.Module):
    """context_0 .. context_{T-1} [1, h, w, C + carried] -> features [1, K, h, w, C], labels, confidence."""

    def __init__(self, net: MoverForecaster, masks: Masks) -> None:
        super().__init__()
        self.net, self.masks = net, masks

    def forward(self, *context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        said = self.net(torch.stack(context, 1))
        labels, confidence = self.masks(torch.cat([said.now, said.labels[0]]))
        return said.features.permute(0, 1, 3, 4, 2), labels[None], confidence[None]


def read_network(weights: Path) -> MoverForecaster:
    content = read_stored(weights)
    net = network(content["options"])
    net.load_state_dict({name: tensor.float() for name, tensor in content["model"].items()})
    return net.eval().requires_grad_(False)


@torch.no_grad()
def temperatures(net: MoverForecaster, encoder: PackedEncoder, drives: list[Path]) -> list[float]:
    """One for now and one for each horizon, so that a confidence of 0.8 is right for 8 of 10 pixels of these drives."""
    moments = 1 + len(net.options.horizons)
    logits: list[list[Tensor]] = [[] for _ in range(moments)]
    true: list[list[Tensor]] = [[] for _ in range(moments)]
    rng = np.random.default_rng(0)
    for path in drives:
        drive = ExactDrive.load(path)
        for start in range(0, len(drive.pictures) - SAMPLE + 1, APART):
            frames = encoder(torch.from_numpy(drive.pictures[start : start + CONTEXT]))[None]
            said = net(frames)
            for k, found in enumerate((said.now[0], *said.labels[0])):
                labels = drive.labels[start + CONTEXT - 1 + k]
                full = functional.interpolate(found[None].float(), labels.shape, mode="bilinear")[0].flatten(1)
                known = np.flatnonzero(labels != UNLABELLED)
                picked = torch.from_numpy(rng.choice(known, min(PIXELS, len(known)), replace=False))
                logits[k].append(full[:, picked].T)
                true[k].append(torch.from_numpy(labels).flatten()[picked].long())
    return [best_temperature(torch.cat(a), torch.cat(b)) for a, b in zip(logits, true, strict=True)]


def export(weights: Path, pack: Path, before: Path, drives: list[Path], version: str, output: Path) -> None:
    bundle = read_bundle(before)
    bounds = dataclasses.replace(bundle.manifest.proof, every=EVERY)
    manifest = dataclasses.replace(bundle.manifest, version=version, proof=bounds, render=None, scores=())
    net = read_network(weights)
    size = manifest.labels.height, manifest.labels.width
    ids = [label.id for label in manifest.labels.classes]
    graph = MoverGraph(net, Masks(ids, size, temperatures(net, read_encoder(pack), drives))).eval()
    round_weights(graph)
    proof = {name: np.asarray(array) for name, array in bundle.proof().items() if not name.startswith("render.")}
    names = [f"context_{i}" for i in range(manifest.time.context)]
    context = {name: torch.from_numpy(proof[f"forecast.{name}"].astype(np.float32)) for name in names}
    with torch.inference_mode():
        outputs = graph(*context.values())
    proof |= {f"forecast.{name}": tensor.numpy() for name, tensor in zip(FORECAST_OUTPUTS, outputs, strict=True)}
    graphs = {
        "encode": onnx.load_model_from_string(bundle.graph("encode")),
        "forecast": exported(graph, context, FORECAST_OUTPUTS),
    }
    write_bundle(output, manifest, graphs, proof)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("pack", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--drives", type=Path, required=True, help="folder of exact drives that nothing learnt from")
    parser.add_argument("--version", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    o = parser.parse_args()
    export(o.weights, o.pack, o.bundle, sorted(o.drives.glob("*.npz")), o.version, o.output)


if __name__ == "__main__":
    main()
