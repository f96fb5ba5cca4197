"""From PyTorch modules to a bundle: the graphs, and PyTorch's outputs as the proof that engines must reproduce."""

import contextlib
import dataclasses
import io
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from re2pix_node.bundle.manifest import Manifest
from re2pix_node.bundle.reader import Bundle
from re2pix_node.bundle.writer import write_bundle
from re2pix_node.errors import BundleError

# Not the newest: OpenVINO 2025.4 does not read the GridSample of opset 20.
OPSET = 18
GRAPH_BYTES_MAX = 2**31 - 2**20  # protobuf's limit, minus the rest of the graph
ROUNDING_MAX = 1e-3  # relative L2; float16 costs 2e-4, unless weights are outside its range
# Of features in proofs: 61 is prime, so the sample covers all channels and cells of usual sizes.
EVERY = 61
FORECAST_OUTPUTS = ("features", "labels", "confidence")


def exported(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph of `module` for inputs of exactly these names and shapes, with all weights in it."""
    _refuse_giant(module)
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None  # it is only None when a file is written
    model: onnx.ModelProto = program.model_proto
    for node in model.graph.node:  # the exporter's notes: megabytes of stack traces with this machine's paths
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return model


def export_bundle(
    path: Path,
    manifest: Manifest,
    encoder: nn.Module,
    forecaster: nn.Module,
    frames: NDArray[np.uint8],
    replace: bool = False,
    renderer: nn.Module | None = None,
    in_half: bool = True,
) -> Bundle:
    """Writes a bundle of modules on the CPU. `frames`, u8 [T, H, W, 3], oldest first, make its proof.

    With `in_half`, rounds the modules' weights to float16 first, so that they take half the space: the proof is
    that of the rounded weights.

    encoder: frame u8 [1, H, W, 3] -> features [1, h, w, C]
    forecaster: context_0 .. context_{T-1}, each as features -> features [S, K, h, w, C], labels and confidence
    u8 [S, K+1, H', W']
    renderer, if the manifest has a render graph: features [1, h, w, C] of a horizon, frame, horizon [1], noise
    [1, N], context_0 .. context_{T-1} -> image [1, H, W, 3], 0 to 255
    """
    for module in filter(None, (encoder, forecaster, renderer)):
        _refuse_giant(module)
        if in_half:
            round_weights(module)
    manifest = dataclasses.replace(manifest, proof=dataclasses.replace(manifest.proof, every=EVERY))
    pictures = [torch.from_numpy(np.ascontiguousarray(frame[None])) for frame in frames]
    with torch.inference_mode():
        seen = [encoder.eval()(picture) for picture in pictures]
        context = {f"context_{i}": _coarse(features) for i, features in enumerate(seen)}
        outputs = dict(zip(FORECAST_OUTPUTS, forecaster.eval()(*context.values()), strict=True))
    proof = {
        "encode.frame": pictures[-1],
        "encode.features": seen[-1],
        **{f"forecast.{name}": tensor for name, tensor in (context | outputs).items()},
    }
    graphs = {
        "encode": exported(encoder, {"frame": pictures[-1]}, ["features"]),
        "forecast": exported(forecaster, context, FORECAST_OUTPUTS),
    }
    if renderer is not None:
        inputs = _drawn_from(manifest, outputs["features"], pictures[-1]) | context
        with torch.inference_mode():
            image = renderer.eval()(*inputs.values())
        proof |= {f"render.{name}": inputs[name] for name in ("features", "noise")}
        proof["render.image"] = image.round().clamp(0, 255).to(torch.uint8)
        graphs["render"] = exported(renderer, inputs, ["image"])
    return write_bundle(path, manifest, graphs, {name: tensor.numpy() for name, tensor in proof.items()}, replace)


def _drawn_from(manifest: Manifest, features: Tensor, frame: Tensor) -> dict[str, Tensor]:
    """Inputs of the proof's picture besides the context: the last horizon, and random noise."""
    assert manifest.render is not None
    return {
        "features": _coarse(features[:1, -1]),
        "frame": frame,
        "horizon": torch.tensor([len(manifest.time.horizons) - 1.0]),
        "noise": _coarse(torch.randn(1, manifest.render.noise, generator=torch.Generator().manual_seed(0))),
    }


def _coarse(features: Tensor) -> Tensor:
    """Rounded to about their deviation: as good an input as any, and a small file."""
    step = float(features.float().std().clamp(min=1e-6).log2().round().exp2())
    return (features / step).round() * step


def round_weights(module: nn.Module) -> None:
    """To what float16 holds, except where it costs too much."""
    with torch.no_grad():
        for weights in module.parameters():
            rounded = weights.half().to(weights.dtype)
            if (rounded - weights).norm() <= ROUNDING_MAX * weights.norm():
                weights.copy_(rounded)


def _refuse_giant(module: nn.Module) -> None:
    size = sum(tensor.nbytes for tensor in itertools.chain(module.parameters(), module.buffers()))
    if size > GRAPH_BYTES_MAX:
        raise BundleError(
            f"{type(module).__name__} has {size / 2**30:.2f} GiB of weights, and a graph of a bundle is one file of "
            "less than 2 GiB: export a smaller model, or its weights in half precision"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's messages about progress and deprecations, about which a user can do nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
