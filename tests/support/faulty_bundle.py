"""The tiny bundle with faults on demand: the colour of a picture's first cell says what its graphs do wrong.

What throws does so in OpenVINO 2025.4 as well as in ONNX Runtime: a Conv given one channel too many. OpenVINO lets many
other impossible things pass (indices out of range, shapes that do not fit), and its request stays broken after this
one, so that nothing but a fresh engine helps.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from re2pix_node.bundle.manifest import Manifest
from re2pix_node.bundle.reader import Bundle
from re2pix_node.bundle.writer import write_bundle
from tests.support import drive
from tests.support.tiny_bundle import CELL, encode_graph, forecast_graph, reference_proof, render_graph, tiny_manifest

ENCODER_THROWS = (250, 128, 128)
ENCODER_NAN = (251, 128, 128)
ENCODER_INF = (252, 128, 128)
RENDERER_NAN = (247, 128, 128)
RENDERER_INF = (248, 128, 128)
RENDERER_THROWS = (249, 128, 128)
# The forecaster knows a picture by its features, and bf16 has few digits: plain colours that the drive does not have.
FORECASTER_NAN = (255, 0, 0)
FORECASTER_INF = (0, 255, 0)
FORECASTER_THROWS = (0, 0, 0)

WEIGHT = 1024  # of a slow encoder: three products of matrices of this size, 6.4 GFLOP


def picture(seconds: float, fault: tuple[int, int, int] | None = None) -> np.ndarray:
    """The made-up drive, as large as the bundle's model wants it, with a fault in its first cell."""
    frame = drive.frame(seconds, 256, 128)
    if fault:
        frame[:CELL, :CELL] = fault
    return frame


def make_faulty_bundle(path: Path, horizons: Sequence[int] = (1, 2, 3)) -> Bundle:
    manifest = _that_draws(horizons)
    return _write(
        path,
        manifest,
        encode=_faulty_by_pixel(encode_graph(manifest), "features", (ENCODER_NAN, ENCODER_INF, ENCODER_THROWS)),
        forecast=_faulty_forecaster(manifest),
        render=_faulty_by_pixel(render_graph(manifest), "image", (RENDERER_NAN, RENDERER_INF, RENDERER_THROWS)),
    )


def make_bundle_of_bad_first_pictures(path: Path, horizons: Sequence[int]) -> Bundle:
    """One whose picture of the nearest horizon is never finite, and the others always are."""
    manifest = _that_draws(horizons)
    render = render_graph(manifest)
    nodes = [
        helper.make_node("Sub", ["horizon", "half"], ["below_zero_at_first"]),
        helper.make_node("Sqrt", ["below_zero_at_first"], ["nan_at_first"]),
        helper.make_node("Add", ["clean", "nan_at_first"], ["image"]),
    ]
    _append(render, "image", nodes, {"half": np.float32(0.5)})
    return _write(path, manifest, encode=encode_graph(manifest), forecast=forecast_graph(manifest), render=render)


def make_slow_bundle(path: Path) -> Bundle:
    """One whose encoder takes some tens of milliseconds on one thread. Few and rare frames will do as context: it may
    have to share the processor."""
    manifest = tiny_manifest()
    manifest = dataclasses.replace(manifest, time=dataclasses.replace(manifest.time, context=2, stride_max=5.0))
    encode = encode_graph(manifest)
    weights = np.random.default_rng(1).normal(0, 1, (WEIGHT, WEIGHT)).astype(np.float32)
    nodes = [
        *_pixel(0),
        helper.make_node("Expand", ["zero_of_0", "square"], ["a"]),
        helper.make_node("MatMul", ["a", "weights"], ["b"]),
        helper.make_node("MatMul", ["b", "weights"], ["c"]),
        helper.make_node("MatMul", ["c", "weights"], ["d"]),
        helper.make_node("ReduceMax", ["d"], ["slowly"], keepdims=0),
        helper.make_node("Add", ["clean", "slowly"], ["features"]),
    ]
    constants = {**_PIXEL, "value_0": np.array([ENCODER_THROWS[0]], np.uint8), "weights": weights}
    _append(encode, "features", nodes, {**constants, "square": np.array([WEIGHT, WEIGHT], np.int64)})
    return _write(path, manifest, encode=encode, forecast=forecast_graph(manifest))


def _that_draws(horizons: Sequence[int]) -> Manifest:
    manifest = tiny_manifest(render=True)
    return dataclasses.replace(manifest, time=dataclasses.replace(manifest.time, horizons=tuple(horizons)))


def _write(path: Path, manifest: Manifest, **graphs: onnx.ModelProto) -> Bundle:
    return write_bundle(path, manifest, graphs, reference_proof(manifest, graphs))


def _faulty_by_pixel(model: onnx.ModelProto, output: str, faults: tuple[tuple[int, int, int], ...]) -> onnx.ModelProto:
    """NaN, infinity and throwing, each by its red in the first pixel of the frame."""
    nodes = [node for i in range(3) for node in _pixel(i)]
    constants = {**_PIXEL, **{f"value_{i}": np.array([fault[0]], np.uint8) for i, fault in enumerate(faults)}}
    _append(model, output, [*nodes, *_spoil(output)], {**constants, **_spoiling(model)})
    return model


def _faulty_forecaster(manifest: Manifest) -> onnx.ModelProto:
    forecast = forecast_graph(manifest)
    newest = f"context_{manifest.time.context - 1}"
    nodes = [
        helper.make_node("Slice", [newest, "from", "to"], ["cell"]),
        helper.make_node("Reshape", ["cell", "three"], ["colour"]),
        # One row each: red over green, green over blue, and darkness.
        helper.make_node("MatMul", ["questions", "colour"], ["answers"]),
        helper.make_node("Sub", ["answers", "bounds"], ["excess"]),
        helper.make_node("Greater", ["excess", "nought"], ["hits"]),
        helper.make_node("Cast", ["hits"], ["hits_f"], to=TensorProto.FLOAT),
        *(helper.make_node("Gather", ["hits_f", f"row_{i}"], [f"zero_of_{i}"]) for i in range(3)),
    ]
    constants = {
        "from": np.array([0, 0, 0, 0], np.int64),
        "to": np.array([1, 1, 1, 3], np.int64),
        "three": np.array([3], np.int64),
        "questions": np.array([[1, -1, 0], [0, 1, -1], [-1, -1, -1]], np.float32),
        "bounds": np.array([0.5, 0.5, -0.1], np.float32),
        "nought": np.float32(0),
        **{f"row_{i}": np.array([i], np.int64) for i in range(3)},
    }
    _append(forecast, "features", [*nodes, *_spoil("features")], {**constants, **_spoiling(forecast)})
    return forecast


# The first pixel's red.
_PIXEL = {
    "from": np.array([0, 0, 0, 0], np.int64),
    "to": np.array([1, 1, 1, 1], np.int64),
    "one_long": np.array([1], np.int64),
}


def _pixel(i: int) -> list[onnx.NodeProto]:
    """Whether the first pixel's red is `value_i`: 1 or, as in every usual picture, 0."""
    return [
        helper.make_node("Slice", ["frame", "from", "to"], [f"corner_{i}"]),
        helper.make_node("Reshape", [f"corner_{i}", "one_long"], [f"pixel_{i}"]),
        helper.make_node("Equal", [f"pixel_{i}", f"value_{i}"], [f"hit_{i}"]),
        helper.make_node("Cast", [f"hit_{i}"], [f"zero_of_{i}"], to=TensorProto.FLOAT),
    ]


def _spoil(output: str) -> list[onnx.NodeProto]:
    """One place of `output` becomes NaN for a hit of 0, an infinity for one of 1; a hit of 2 throws."""
    return [
        helper.make_node("Mul", ["zero_of_0", "two"], ["twice"]),
        helper.make_node("Sub", ["one", "twice"], ["one_or_minus"]),
        helper.make_node("Sqrt", ["one_or_minus"], ["one_or_nan"]),
        helper.make_node("Sub", ["one", "zero_of_1"], ["one_or_zero"]),
        helper.make_node("Div", ["one_or_nan", "one_or_zero"], ["factor"]),
        helper.make_node("Mul", ["clean", "factor"], ["spoilt"]),
        helper.make_node("Where", ["where", "spoilt", "clean"], ["partly"]),
        helper.make_node("Cast", ["zero_of_2"], ["extra"], to=TensorProto.INT64),
        helper.make_node("Add", ["extra", "channels"], ["asked"]),
        helper.make_node("Concat", ["unit", "asked", "unit", "unit"], ["shape"], axis=0),
        helper.make_node("Expand", ["zero_of_2", "shape"], ["block"]),
        helper.make_node("Conv", ["block", "kernel"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["partly", "zero"], [output]),
    ]


def _spoiling(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    *_, height, width, _ = (side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim)
    where = np.zeros((1, height, width, 1), bool)
    where[0, 3, 5] = True
    return {
        "one": np.float32(1),
        "two": np.float32(2),
        "where": where,
        "unit": np.array([1], np.int64),
        "channels": np.array([6], np.int64),
        "kernel": np.ones((2, 6, 1, 1), np.float32),
    }


def _append(model: onnx.ModelProto, output: str, nodes: list[onnx.NodeProto], constants: dict) -> None:
    """Nodes behind those of a graph: what was its `output` is now called "clean", and they make the output again."""
    for node in model.graph.node:
        _rename(node, {output: "clean"})
    own = {*constants, *(name for node in nodes for name in node.output)} - {output}
    for node in nodes:
        _rename(node, {name: f"appended {name}" for name in own})
    model.graph.node.extend(nodes)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"appended {name}"))


def _rename(node: onnx.NodeProto, new: dict[str, str]) -> None:
    for names in (node.input, node.output):
        for i, name in enumerate(names):
            names[i] = new.get(name, name)
