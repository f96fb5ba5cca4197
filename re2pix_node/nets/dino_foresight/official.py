"""The published configuration of DINO-Foresight, ViT-B/14 and 12 layers of 1152, with random weights."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import Manifest, ProofSpec, Provenance
from re2pix_node.bundle.reader import Bundle
from re2pix_node.bundle.writer import write_bundle
from re2pix_node.nets.backbones.dinov2 import DinoV2
from re2pix_node.nets.dino_foresight.bundle import HORIZONS, dino_foresight_manifest
from re2pix_node.nets.dino_foresight.dpt import DptHead
from re2pix_node.nets.dino_foresight.graphs import CLASSES, DinoEncoder, DinoForecaster, DinoForesight
from re2pix_node.nets.dino_foresight.masked_transformer import MaskedTransformer
from re2pix_node.nets.dino_foresight.pca import PcaBasis
from re2pix_node.nets.onnx_export import FORECAST_OUTPUTS, exported
from re2pix_node.nets.proof_frames import proof_frames

CHANNELS, JOINED = 1152, 4 * 768


def write_official_bundle(path: Path, grid: tuple[int, int], blocks: int, layers: int) -> Bundle:
    """ONNX Runtime computes the proof from the graphs, not PyTorch: such a bundle compares engines with ONNX Runtime
    and does not test the export."""
    torch.manual_seed(0)
    parts = official_parts(blocks, layers, grid)
    manifest = _manifest(path.name, parts)
    frames = proof_frames(manifest.time.context, *parts.image_size)
    encoder = exported(DinoEncoder(parts), {"frame": torch.from_numpy(frames[:1])}, ["features"])
    context = [_run(encoder, {"frame": frame[None]})[0] for frame in frames]
    inputs = {f"context_{i}": features for i, features in enumerate(context)}
    tensors = {name: torch.from_numpy(features) for name, features in inputs.items()}
    forecaster = exported(DinoForecaster(parts, HORIZONS), tensors, FORECAST_OUTPUTS)
    del parts, tensors  # frees a gigabyte before more is allocated
    outputs = dict(zip(FORECAST_OUTPUTS, _run(forecaster, inputs), strict=True))
    proof = {
        "encode.frame": frames[-1:],
        "encode.features": context[-1],
        **{f"forecast.{name}": array for name, array in (inputs | outputs).items()},
    }
    return write_bundle(path, manifest, {"encode": encoder, "forecast": forecaster}, proof)


def official_parts(blocks: int, layers: int, grid: tuple[int, int]) -> DinoForesight:
    zeros, ones = torch.zeros(JOINED).double(), torch.ones(JOINED).double()
    basis = PcaBasis(zeros, ones, zeros, torch.randn(CHANNELS, JOINED).double() / JOINED**0.5)
    transformer = MaskedTransformer(grid, CHANNELS, CHANNELS, layers)
    torch.nn.init.normal_(transformer.maskvit["fc_out"].weight, std=0.02)  # zero weights would be folded away
    taken = tuple(blocks * (i + 1) // 4 - 1 for i in range(4))
    parts = DinoForesight(DinoV2(depth=blocks), taken, basis, transformer, DptHead(CLASSES), grid)
    for module in (parts.backbone, parts.transformer, parts.head):
        module.eval()
    return parts


def _run(model: onnx.ModelProto, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.generic]] = session.run(None, inputs)
    return outputs


def _manifest(name: str, parts: DinoForesight) -> Manifest:
    published = dino_foresight_manifest(name, parts)
    return dataclasses.replace(
        published,
        description="DINO-Foresight's published configuration with random weights, to measure speed.",
        licence="Apache-2.0",
        provenance=(Provenance("all weights", "random numbers", "Apache-2.0"),),
        # Random classes are almost equally likely, so half precision chooses others. This bundle measures speed; the
        # bounds only refuse grossly wrong numbers.
        proof=ProofSpec("proof.npz", "0" * 64, relative_l2=0.1, cosine=0.995, agreement=0.9, confidence=0.05),
    )
