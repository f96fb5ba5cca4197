"""Graphs that were rewritten for TensorRT compute the same as before, in engines that keep the types of the graph."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from re2pix_node.bundle.locate import bundle_folder
from re2pix_node.bundle.reader import Bundle, read_bundle, signatures
from re2pix_node.engines import openvino
from re2pix_node.engines.proof import Proof, compare
from re2pix_node.engines.tensorrt.retype import _places, for_tensorrt
from re2pix_node.errors import EngineError

Arrays = Mapping[str, NDArray]


def by_onnxruntime(data: bytes, inputs: Arrays) -> dict[str, NDArray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As it is written: an optimiser would take the casts out that make the difference.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, dict(inputs)), strict=True))


def by_openvino(data: bytes, inputs: Arrays) -> dict[str, NDArray]:
    return openvino.load_graph(data, "fp32", threads=2).run(dict(inputs))


def proof_of(bundle: Bundle, precision: str) -> Proof:
    run = by_openvino if precision == "bf16" else by_onnxruntime  # ONNX Runtime has no bf16 on the CPU
    reference, found = bundle.proof(), {}
    for graph, signature in signatures(bundle.manifest).items():
        inputs = {name: reference[f"{graph}.{name}"] for name in signature.inputs}
        outputs = run(for_tensorrt(bundle.graph(graph), precision), inputs)
        found |= {f"{graph}.{name}": array for name, array in outputs.items()}
    return compare(found, reference, bundle.manifest.proof)


@pytest.fixture(scope="module")
def nano() -> Bundle:
    return read_bundle(Path(bundle_folder("re2pix-nano")))


def test_in_fp32_nothing_changes(nano: Bundle, tiny: Bundle) -> None:
    for bundle in (nano, tiny):
        proof = proof_of(bundle, "fp32")
        assert proof.relative_l2 < 1e-5
        assert proof.agreement > 0.9999


@pytest.mark.parametrize(("precision", "close"), [("fp16", 0.005), ("bf16", 0.04)])
def test_the_shipped_bundle_reproduces_its_proof_in_half_precision(nano: Bundle, precision: str, close: float) -> None:
    proof = proof_of(nano, precision)
    assert proof.passed
    assert 1e-4 < proof.relative_l2 < close  # and it is in half precision


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_inputs_and_outputs_stay_and_bytes_are_at_the_edges(nano: Bundle, tiny: Bundle, precision: str) -> None:
    for bundle in (nano, tiny):
        for name in ("encode", "forecast"):
            before = onnx.load_from_string(bundle.graph(name))
            after = onnx.load_from_string(for_tensorrt(bundle.graph(name), precision))
            onnx.checker.check_model(after)
            assert list(after.graph.input) == list(before.graph.input)
            assert list(after.graph.output) == list(before.graph.output)
            typed = onnx.shape_inference.infer_shapes(after, strict_mode=precision != "bf16")
            inner = {value.name: value.type.tensor_type.elem_type for value in typed.graph.value_info}
            assert TensorProto.UINT8 not in inner.values()
            assert all(tensor.data_type != TensorProto.UINT8 for tensor in after.graph.initializer)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_heavy_layers_are_in_half_precision_and_delicate_ones_are_not(nano: Bundle, precision: str) -> None:
    half = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    for name in ("encode", "forecast"):
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(for_tensorrt(nano.graph(name), precision)))
        types = {
            value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.input)
        }
        types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        kinds, places = {}, _places(model.graph)
        for node in model.graph.node:
            kind = "place" if node.op_type == "Conv" and node.output[0] in places else node.op_type
            kinds.setdefault(kind, set()).add(types.get(node.input[0]))
        assert kinds["MatMul"] == kinds["Conv"] == {half}
        assert kinds.get("place", {TensorProto.FLOAT}) == {TensorProto.FLOAT}  # what says where to sample
        assert ("place" in kinds) == (name == "forecast")
        for delicate in ("LayerNormalization", "Softmax", "GridSample", "ReduceL2", "ArgMax", "Resize"):
            assert kinds.get(delicate, {TensorProto.FLOAT}) == {TensorProto.FLOAT}, delicate
        assert half in kinds["Erf"]  # between the two layers of an MLP


def model(nodes: list[onnx.NodeProto], weights: dict[str, NDArray], inputs: dict, outputs: dict) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def test_a_weight_that_is_used_in_both_types_and_an_output_that_is_used_further() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 3), np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Add", ["y", "w"], ["sum"]),  # in half
        helper.make_node("Softmax", ["sum"], ["z"]),
        helper.make_node("Add", ["z", "w"], ["u"]),  # in full
    ]
    names = {name: (TensorProto.FLOAT, [3, 3]) for name in ("y", "u")}
    data = for_tensorrt(model(nodes, {"w": w}, {"x": (TensorProto.FLOAT, [3, 3])}, names), "fp16")
    found = by_onnxruntime(data, {"x": x})
    y = x @ w
    z = np.exp(y + w) / np.exp(y + w).sum(-1, keepdims=True)
    np.testing.assert_allclose(found["y"], y, atol=5e-3)
    np.testing.assert_allclose(found["u"], z + w, atol=5e-3)
    tensors = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(data).graph.initializer}
    assert set(tensors.values()) == {TensorProto.FLOAT, TensorProto.FLOAT16}


@pytest.mark.parametrize(("precision", "kind"), [("fp32", TensorProto.FLOAT), ("fp16", TensorProto.FLOAT16)])
def test_weights_that_are_stored_in_half_are_constants_of_the_precision(precision: str, kind: int) -> None:
    """TensorRT would read a Cast of them as something to compute, and fuse nothing with it."""
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["w.stored"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    edges = {"x": (TensorProto.FLOAT, [64, 64])}, {"y": (TensorProto.FLOAT, [64, 64])}
    data = for_tensorrt(model(nodes, {"w.stored": w}, *edges), precision)
    graph = onnx.load_from_string(data).graph
    assert [tensor.data_type for tensor in graph.initializer] == [kind]
    assert graph.initializer[0].name in next(node for node in graph.node if node.op_type == "MatMul").input
    np.testing.assert_allclose(by_onnxruntime(data, {"x": np.eye(64, dtype=np.float32)})["y"], w, atol=1e-3)


def test_bf16_weights_are_rounded_to_the_nearest() -> None:
    w = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    x = np.eye(64, dtype=np.float32)
    kinds = {"x": (TensorProto.FLOAT, [64, 64])}, {"y": (TensorProto.FLOAT, [64, 64])}
    data = for_tensorrt(model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w}, *kinds), "bf16")
    found = by_openvino(data, {"x": x})["y"]
    assert np.abs(found / w - 1).max() <= 2**-8  # half of the last of 8 bits
    assert abs(float((found / w - 1).mean())) < 2**-12  # and not towards zero


def test_labels_that_are_looked_up_as_bytes_are_looked_up_as_floats() -> None:
    nodes = [
        helper.make_node("Gather", ["ids", "i"], ["found"]),
        helper.make_node("Unsqueeze", ["found", "axis"], ["labels"]),
    ]
    weights = {"ids": np.array([7, 255, 9], np.uint8), "axis": np.array([0])}
    data = model(nodes, weights, {"i": (TensorProto.INT64, [2])}, {"labels": (TensorProto.UINT8, [1, 2])})
    found = by_onnxruntime(for_tensorrt(data, "fp32"), {"i": np.array([1, 2])})
    np.testing.assert_array_equal(found["labels"], np.array([[255, 9]], np.uint8))


def test_a_graph_that_computes_with_bytes_is_refused() -> None:
    nodes = [helper.make_node("Add", ["x", "x"], ["y"], name="twice")]
    data = model(nodes, {}, {"x": (TensorProto.UINT8, [2])}, {"y": (TensorProto.UINT8, [2])})
    with pytest.raises(EngineError, match="computes with bytes \\(Add twice\\), TensorRT cannot"):
        for_tensorrt(data, "fp32")
