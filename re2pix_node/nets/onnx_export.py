"""From PyTorch modules to a bundle: the graphs, and PyTorch's own outputs as the proof that engines must reproduce."""

import contextlib
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

from re2pix_node.bundle import Bundle
from re2pix_node.bundle_writer import write_bundle
from re2pix_node.errors import BundleError
from re2pix_node.manifest import Manifest

# Not the newest: OpenVINO 2025.4 does not read the GridSample of opset 20.
OPSET = 18
GRAPH_BYTES_MAX = 2**31 - 2**20  # protobuf's limit, less what the graph has beside its weights
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
    assert program is not None  # given without a file to write to, it always is
    model: onnx.ModelProto = program.model_proto
    return model


def export_bundle(
    path: Path,
    manifest: Manifest,
    encoder: nn.Module,
    forecaster: nn.Module,
    frames: NDArray[np.uint8],
    replace: bool = False,
) -> Bundle:
    """Writes a bundle of two modules on the CPU. `frames`, u8 [T, H, W, 3], oldest first, make its proof.

    encoder: frame u8 [1, H, W, 3] -> features [1, h, w, C]
    forecaster: context_0 .. context_{T-1}, each as features -> features [S, K, h, w, C], labels and confidence
    u8 [S, K+1, H', W']
    """
    for module in (encoder, forecaster):
        _refuse_giant(module)
    pictures = [torch.from_numpy(np.ascontiguousarray(frame[None])) for frame in frames]
    with torch.inference_mode():
        context = {f"context_{i}": encoder.eval()(picture) for i, picture in enumerate(pictures)}
        outputs = dict(zip(FORECAST_OUTPUTS, forecaster.eval()(*context.values()), strict=True))
    proof = {
        "encode.frame": pictures[-1],
        "encode.features": context[f"context_{len(pictures) - 1}"],
        **{f"forecast.{name}": tensor for name, tensor in (context | outputs).items()},
    }
    graphs = {
        "encode": exported(encoder, {"frame": pictures[-1]}, ["features"]),
        "forecast": exported(forecaster, context, FORECAST_OUTPUTS),
    }
    return write_bundle(path, manifest, graphs, {name: tensor.numpy() for name, tensor in proof.items()}, replace)


def _refuse_giant(module: nn.Module) -> None:
    size = sum(tensor.nbytes for tensor in itertools.chain(module.parameters(), module.buffers()))
    if size > GRAPH_BYTES_MAX:
        raise BundleError(
            f"{type(module).__name__} has {size / 2**30:.2f} GiB of weights, and a graph of a bundle is one file of "
            "less than 2 GiB: export a smaller model, or its weights in half precision"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its own progress and deprecations; a user can do nothing about them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
