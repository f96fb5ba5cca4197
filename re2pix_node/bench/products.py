"""A bundle with nothing but matrix products, to measure the best rate of an engine through the engine itself."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import (
    SCHEMA,
    FeatureSpec,
    FileEntry,
    Graphs,
    ImageSpec,
    LabelClass,
    LabelSpec,
    Manifest,
    ProofSpec,
    Provenance,
    TimeSpec,
)
from re2pix_node.bundle.reader import Bundle
from re2pix_node.bundle.writer import write_bundle

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Products:
    """A chain of products of square matrices."""

    side: int
    layers: int

    @property
    def flops(self) -> int:
        return 2 * self.side**3 * self.layers


# Large enough to keep all cores busy, small enough to take a CPU about a second.
FOR_CPU = Products(1024, 4)
FOR_GPU = Products(2048, 16)


def write_products(path: Path, products: Products) -> Bundle:
    """Write a bundle whose encoder is nothing but products; every engine can load it. Needs the onnx package."""
    rng = np.random.default_rng(3)
    side, cells = products.side, [1, 1, 1, products.side]
    spread = (rng.standard_normal((3, side)) / 255).astype(np.float32)
    # The weights keep the magnitude of the input.
    weight = (rng.standard_normal((side, side)) / side**0.5).astype(np.float32)
    frame = rng.integers(0, 256, (1, 1, side, 3), np.uint8)
    features = frame.astype(np.float32) @ spread
    for _ in range(products.layers):
        features = features @ weight
    context = features.max(axis=2, keepdims=True)
    proof: dict[str, NDArray[Any]] = {
        "encode.frame": frame,
        "encode.features": context,
        "forecast.context_0": context,
        "forecast.features": context[None],
        "forecast.labels": np.zeros((1, 2, 1, 1), np.uint8),
        "forecast.confidence": np.full((1, 2, 1, 1), 1, np.uint8),
    }
    graphs = {"encode": _encode(products, spread, weight), "forecast": _forecast(cells)}
    return write_bundle(path, _manifest(products), graphs, proof)


def _encode(products: Products, spread: NDArray[Any], weight: NDArray[Any]) -> "onnx.ModelProto":
    from onnx import TensorProto, helper

    names = [f"x{i}" for i in range(products.layers + 1)]
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["float", "spread"], ["x0"]),
        *(helper.make_node("MatMul", [before, "weight"], [after]) for before, after in itertools.pairwise(names)),
        # The output is small, but everything must be computed: fewer rows cannot give the maximum of each column.
        helper.make_node("ReduceMax", [names[-1], "rows"], ["features"], keepdims=1),
    ]
    side = products.side
    inputs = {"frame": (TensorProto.UINT8, [1, 1, side, 3])}
    outputs = {"features": (TensorProto.FLOAT, [1, 1, 1, side])}
    constants = {"spread": spread, "weight": weight, "rows": np.array([2])}
    return _model("encode", nodes, inputs, outputs, constants)


def _forecast(cells: list[int]) -> "onnx.ModelProto":
    """The forecast graph that every bundle must have; not measured."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Unsqueeze", ["context_0", "first"], ["features"]),
        helper.make_node("ReduceMax", ["context_0"], ["most"]),
        helper.make_node("Concat", ["most", "most"], ["both"], axis=1),
        helper.make_node("Clip", ["both", "zero", "zero"], ["nothing"]),
        helper.make_node("Clip", ["both", "one", "one"], ["something"]),
        helper.make_node("Cast", ["nothing"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["something"], ["confidence"], to=TensorProto.UINT8),
    ]
    inputs = {"context_0": (TensorProto.FLOAT, cells)}
    masks = (TensorProto.UINT8, [1, 2, 1, 1])
    outputs = {"features": (TensorProto.FLOAT, [1, *cells]), "labels": masks, "confidence": masks}
    constants = {"first": np.array([0]), "zero": np.array(0, np.float32), "one": np.array(1, np.float32)}
    return _model("forecast", nodes, inputs, outputs, constants)


def _model(
    name: str,
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[int]]],
    outputs: dict[str, tuple[int, list[int]]],
    constants: dict[str, NDArray[Any]],
) -> "onnx.ModelProto":
    from onnx import helper, numpy_helper

    def edges(tensors: dict[str, tuple[int, list[int]]]) -> list[Any]:
        return [helper.make_tensor_value_info(key, *kind) for key, kind in tensors.items()]

    held = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, edges(inputs), edges(outputs), held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _manifest(products: Products) -> Manifest:
    unknown = "0" * 64  # write_bundle fills in the hashes
    return Manifest(
        schema=SCHEMA,
        name=f"products-{products.side}",
        version="1",
        description="Matrix products, to measure how fast an engine can be.",
        licence="Apache-2.0",
        provenance=(Provenance("all weights", "random numbers", "Apache-2.0"),),
        image=ImageSpec(1, products.side),
        time=TimeSpec(1, 0.1, 0.1, 0.1, 0.0, (1,)),
        features=FeatureSpec(1, 1, products.side, "float32"),
        samples=1,
        labels=LabelSpec(1, 1, (LabelClass(0, "nothing", (0, 0, 0)),)),
        graphs=Graphs(FileEntry("encode.onnx", unknown), FileEntry("forecast.onnx", unknown)),
        # Wide bounds: this bundle measures speed, not accuracy.
        proof=ProofSpec("proof.npz", unknown, relative_l2=0.2, cosine=0.98, agreement=1.0, confidence=0.1),
    )
