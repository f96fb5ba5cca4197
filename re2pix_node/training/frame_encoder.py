"""Encodes many frames: on a GPU with PyTorch, else with the engine that is fastest on a CPU."""

import hashlib
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from re2pix_node.engines import openvino
from re2pix_node.errors import TrainingError
from re2pix_node.nets.backbone import Backbone, backbone_kind
from re2pix_node.nets.features import FeatureBasis, FeatureEncoder, raw_channels
from re2pix_node.nets.onnx_export import exported
from re2pix_node.training.run_file import BackboneSpec

ENOUGH = 0.05  # maximum difference of an engine from PyTorch (relative L2), as in a bundle's proof
BATCH = 16  # frames at once on a GPU
WORTH_EXPORTING = 300  # frames; for fewer, exporting a graph takes longer than PyTorch


class FrameEncoder:
    """u8 [n, H, W, 3] -> [n, h, w, channels], with the fastest way to run the module."""

    def __init__(self, module: nn.Module, height: int, width: int) -> None:
        self.module = module.eval()
        self._size = (height, width)
        self._run: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None
        self._expected = WORTH_EXPORTING
        self.engine = "not chosen yet"

    def expect(self, frames: int) -> None:
        """Prepare for this many frames."""
        self._expected = frames

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._run is None:  # exporting takes seconds, and often everything is already encoded
            self._run = self._chosen(frames[:1])
        return self._run(frames)

    def _chosen(self, frame: NDArray[np.uint8]) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        if torch.cuda.is_available():
            self.engine = f"torch on {torch.cuda.get_device_name()}"
            self.module.cuda()
            return self._by_torch
        reference = self._by_torch(frame)
        for precision in _precisions() if self._expected >= WORTH_EXPORTING else ():
            try:
                run = self._by_openvino(precision)
                apart = np.linalg.norm(run(frame) - reference) / np.linalg.norm(reference)
            except Exception:  # any error of a runtime costs only that engine
                continue
            if apart < ENOUGH:
                self.engine = f"openvino {precision}"
                return run
        self.engine = "torch on the CPU"
        return self._by_torch

    def _by_torch(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        device = next(self.module.parameters()).device
        with torch.inference_mode():
            parts = [
                self.module(torch.from_numpy(frames[i : i + BATCH]).to(device)).float().cpu()
                for i in range(0, len(frames), BATCH)
            ]
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found

    @cached_property
    def _graph(self) -> bytes:
        frame = torch.zeros((1, *self._size, 3), dtype=torch.uint8)
        data: bytes = exported(self.module, {"frame": frame}, ["features"]).SerializeToString()
        return data

    def _by_openvino(self, precision: str) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        graph = openvino.load_graph(self._graph, precision, len(os.sched_getaffinity(0)))

        def run(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.concatenate([graph.run({"frame": frame[None]})["features"] for frame in frames])

        return run


def _precisions() -> list[str]:
    try:
        return openvino.RUNTIME.precisions()
    except Exception:  # not installed, or broken in any way
        return []


def load_backbone(spec: BackboneSpec) -> Backbone:
    backbone = backbone_kind(spec.kind).load(Path(spec.weights))
    for layer in spec.layers:
        if layer not in backbone.gives:
            known = ", ".join(backbone.gives)
            raise TrainingError(f"backbone.layers: there is no layer '{layer}'; there are {known}")
        cell = backbone.gives[layer].cell
        if cell % spec.cell and spec.cell % cell:
            raise TrainingError(
                f"backbone.cell: '{layer}' has {cell} pixels a cell: must be a divisor or multiple, is {spec.cell}"
            )
    return backbone


def feature_encoder(spec: BackboneSpec, basis: FeatureBasis) -> FeatureEncoder:
    backbone = load_backbone(spec)
    known = set(basis.layers) <= set(backbone.gives) and raw_channels(backbone, basis.layers) == len(basis.mean)
    if not known or basis.cell != spec.cell:
        raise TrainingError("basis.npz: is of another backbone: create it again with re2pix train pca ... --force")
    return FeatureEncoder(backbone, basis, spec.picture)


def encoder_identity(spec: BackboneSpec, basis: FeatureBasis) -> str:
    """A hash of everything that the features of a frame depend on."""
    digest = hashlib.sha256()
    with Path(spec.weights).open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    shape = (spec.kind, spec.height, spec.width, spec.fit, spec.picture, spec.mask, basis.layers, basis.cell)
    digest.update(repr((*shape, basis.scale)).encode())
    for array in (basis.mean, basis.std, basis.components):
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    return digest.hexdigest()
