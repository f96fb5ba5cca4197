"""A model from PyTorch, exported and with PyTorch's own outputs as the proof, is a bundle that the engines reproduce.

PyTorch is in the test environment only: the run time never needs it.
"""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from re2pix_node.bundle.manifest import FeatureSpec, LabelSpec, Manifest
from re2pix_node.bundle.reader import Bundle
from re2pix_node.bundle.writer import OPSET_MAX, write_bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.pipeline.pipeline import Pipeline
from tests.support import drive
from tests.support.tiny_bundle import CLASSES, tiny_manifest

HEIGHT, WIDTH, PATCH, CHANNELS, HORIZONS = 64, 128, 8, 24, 3


class Encoder(nn.Module):
    """A transformer layer on patches, as in a vision foundation model."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, CHANNELS, PATCH, PATCH)
        self.norm = nn.LayerNorm(CHANNELS)
        self.attention = nn.MultiheadAttention(CHANNELS, 4, batch_first=True)

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        # Cast before permuting: TensorRT refuses to transpose uint8.
        planes = frame.float().permute(0, 3, 1, 2) / 255 - 0.5
        tokens = self.patches(planes).flatten(2).transpose(1, 2)
        normed = self.norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return tokens.reshape(1, HEIGHT // PATCH, WIDTH // PATCH, CHANNELS)


class Forecaster(nn.Module):
    """A rollout inside the graph, and a head with its argmax."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Sequential(nn.Linear(4 * CHANNELS, 48), nn.GELU(), nn.Linear(48, CHANNELS))
        self.head = nn.Linear(CHANNELS, len(CLASSES))

    def forward(self, *context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        known = list(context)
        for _ in range(HORIZONS):
            known.append(known[-1] + self.step(torch.cat(known[-4:], dim=-1)))
        features = torch.cat(known[len(context) :])[None]
        moments = torch.cat(known[len(context) - 1 :])
        logits = self.head(moments).permute(0, 3, 1, 2)
        logits = nn.functional.interpolate(logits, scale_factor=4.0, mode="bilinear")
        confidence, winners = logits.softmax(1).max(1)
        labels = torch.tensor([c.id for c in CLASSES], dtype=torch.uint8)[winners]
        return features, labels[None], (confidence * 255).to(torch.uint8)[None]


def from_torch_manifest() -> Manifest:
    return dataclasses.replace(
        tiny_manifest(HEIGHT, WIDTH),
        name="from-torch",
        features=FeatureSpec(HEIGHT // PATCH, WIDTH // PATCH, CHANNELS, "float32"),
        labels=LabelSpec(HEIGHT // PATCH * 4, WIDTH // PATCH * 4, CLASSES),
    )


def exported(model: nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str], path: Path) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET_MAX,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return onnx.load(str(path))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("from-torch")
    torch.manual_seed(3)
    encoder, forecaster = Encoder().eval(), Forecaster().eval()
    frames = [torch.from_numpy(drive.frame(0.18 * i, WIDTH, HEIGHT)[None].copy()) for i in range(4)]
    with torch.inference_mode():
        context = {f"context_{i}": encoder(frame) for i, frame in enumerate(frames)}
        outputs = dict(zip(("features", "labels", "confidence"), forecaster(*context.values()), strict=True))
    proof = {
        "encode.frame": frames[-1].numpy(),
        "encode.features": context["context_3"].numpy(),
        **{f"forecast.{name}": tensor.numpy() for name, tensor in (context | outputs).items()},
    }
    manifest = from_torch_manifest()
    graphs = {
        "encode": exported(encoder, {"frame": frames[-1]}, ["features"], folder / "encode.onnx"),
        "forecast": exported(forecaster, context, list(outputs), folder / "forecast.onnx"),
    }
    return write_bundle(folder / "bundle", manifest, graphs, proof)


@pytest.mark.parametrize("engine_name", ["openvino", "onnxruntime"])
def test_engines_reproduce_what_pytorch_computed(bundle: Bundle, engine_name: str) -> None:
    engine, attempts = open_engine(bundle, engine_name, "fp32")
    assert attempts[-1].proof is not None
    assert attempts[-1].proof.relative_l2 < 1e-5
    assert attempts[-1].proof.agreement > 0.999

    pipeline = Pipeline(bundle, engine)
    forecasts = [pipeline.observe(drive.frame(0.1 * i, 320, 180), i * 10**8).forecast for i in range(8)]
    assert forecasts[-1] is not None
    assert np.isfinite(forecasts[-1].features).all()
