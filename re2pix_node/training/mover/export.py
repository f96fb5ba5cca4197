"""Exports the result of `learn` as a bundle; its encode graph stays that of the old bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED, Manifest, Provenance
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.bundle.writer import write_bundle
from re2pix_node.errors import BundleError
from re2pix_node.footage.cityscapes_classes import NAMES
from re2pix_node.footage.exact_drives import ExactDrive
from re2pix_node.nets.masks import ChanceMasks
from re2pix_node.nets.mover.forecaster import MoverForecaster
from re2pix_node.nets.onnx_export import EVERY, FORECAST_OUTPUTS, exported, round_weights
from re2pix_node.training.mover.learn import CONTEXT, SAMPLE, WEIGHTS, network
from re2pix_node.training.mover.pack import REAL, PackedEncoder, read_encoder
from re2pix_node.training.stored import read_stored

LEARNT, OLD_PARTS = "flow, forecaster and head", "PCA, forecaster and head"
OLD_STEPS = ("re2pix train forecaster", "re2pix train head")
APART, PIXELS = 24, 4000  # frames between the samples for calibration, and pixels of each moment


class MoverGraph(nn.Module):
    """context_0 .. context_{T-1} [1, h, w, C + carried] -> features [1, K, h, w, C], labels, confidence."""

    def __init__(self, net: MoverForecaster, masks: ChanceMasks) -> None:
        super().__init__()
        self.net, self.masks = net, masks

    def forward(self, *context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        said = self.net(torch.stack(context, 1))
        totals = torch.cat([torch.zeros_like(said.now), said.opinions[0]]).sum(1, keepdim=True)
        totals = totals + said.now.sum(1, keepdim=True)  # moved labels of now are in all
        labels, confidence = self.masks(torch.cat([said.now.softmax(1), said.chances[0]]), totals)
        return said.features.permute(0, 1, 3, 4, 2), labels[None], confidence[None]


def read_network(weights: Path) -> MoverForecaster:
    content = read_stored(weights)
    net = network(content["options"])
    net.load_state_dict({name: tensor.float() for name, tensor in content["model"].items()})
    return net.eval().requires_grad_(False)


@torch.no_grad()
def best_powers(net: MoverForecaster, encoder: PackedEncoder, drives: list[Path]) -> list[float]:
    """One for now and one for each horizon, so that a confidence of 0.8 is right for 8 of 10 pixels of these drives."""
    moments = 1 + len(net.options.horizons)
    chances: list[list[Tensor]] = [[] for _ in range(moments)]
    hits: list[list[Tensor]] = [[] for _ in range(moments)]
    rng = np.random.default_rng(0)
    for path in drives:
        drive = ExactDrive.load(path)
        for start in range(0, len(drive.pictures) - SAMPLE + 1, APART):
            frames = encoder(torch.from_numpy(drive.pictures[start : start + CONTEXT]))[None]
            said = net(frames)
            for k, found in enumerate((said.now[0].softmax(0), *said.chances[0])):
                labels = drive.labels[start + CONTEXT - 1 + k]
                full = functional.interpolate(found[None], labels.shape, mode="bilinear")[0].flatten(1)
                known = np.flatnonzero(labels != UNLABELLED)
                picked = torch.from_numpy(rng.choice(known, min(PIXELS, len(known)), replace=False))
                best, label = full[:, picked].max(0)
                chances[k].append(best)
                hits[k].append(label == torch.from_numpy(labels).flatten()[picked])
    return [best_power(torch.cat(a), torch.cat(b)) for a, b in zip(chances, hits, strict=True)]


def best_power(chances: Tensor, hits: Tensor) -> float:
    """The power of the chances with the greatest likelihood of the hits."""
    powers = torch.logspace(-1, 1, 201)
    raised = chances.double().clamp(1e-6, 1 - 1e-6)[:, None] ** powers
    likelihood = torch.where(hits[:, None], raised.log(), (1 - raised).log()).mean(0)
    return float(powers[likelihood.argmax()])


def export(
    trained: Path, pack: Path, before: Path, drives: list[Path], version: str, output: Path, replace_it: bool = False
) -> None:
    bundle = read_bundle(before)
    manifest = _manifest(bundle.manifest, pack, version)
    net = read_network(trained / WEIGHTS)
    size = manifest.labels.height, manifest.labels.width
    graph = MoverGraph(net, ChanceMasks(size, best_powers(net, read_encoder(pack), drives))).eval()
    round_weights(graph)
    # Pictures are drawn by the graph that drew them before, which has its own proof.
    proof = {name: np.asarray(array) for name, array in bundle.proof().items()}
    names = [f"context_{i}" for i in range(manifest.time.context)]
    context = {name: torch.from_numpy(proof[f"forecast.{name}"].astype(np.float32)) for name in names}
    with torch.inference_mode():
        outputs = graph(*context.values())
    proof |= {f"forecast.{name}": tensor.numpy() for name, tensor in zip(FORECAST_OUTPUTS, outputs, strict=True)}
    kept = ["encode", *(["render"] if manifest.render else [])]
    graphs = {name: onnx.load_model_from_string(bundle.graph(name)) for name in kept}
    graphs["forecast"] = exported(graph, context, FORECAST_OUTPUTS)
    write_bundle(output, manifest, graphs, proof, replace_it)


def _manifest(before: Manifest, pack: Path, version: str) -> Manifest:
    ids = [label.id for label in before.labels.classes]
    if ids != list(range(len(NAMES))):
        raise BundleError(f"the bundle before has the class ids {ids}: this family learns 0 to {len(NAMES) - 1}")
    footage = ", ".join(sorted(path.name for path in (pack / REAL).glob("*") if path.suffix != ".npz"))
    learnt = Provenance(
        LEARNT,
        f"re2pix train --pack, on drives of re2pix_node.simulator.exact and on {footage}",
        before.licence,
    )
    older = [part for part in before.provenance if part.what != LEARNT]
    provenance = [replace(part, what=part.what.replace(OLD_PARTS, "PCA")) for part in older]
    # Scores of what was replaced are gone with it.
    scores = [score for score in before.scores if not score.command.startswith(OLD_STEPS)]
    return replace(
        before,
        version=version,
        provenance=(*provenance, learnt),
        scores=tuple(scores),
        proof=replace(before.proof, every=EVERY),
    )
