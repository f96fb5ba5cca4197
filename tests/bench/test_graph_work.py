"""The arithmetic of graphs, against counts by hand."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from re2pix_node.bench.graph_work import GraphWork, graph_work


def model(nodes: list, inputs: dict[str, list], outputs: dict[str, list], constants: dict[str, np.ndarray]) -> bytes:
    def edges(shapes: dict[str, list]) -> list:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", edges(inputs), edges(outputs), held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


def test_products_between_inputs_count_each_batch() -> None:
    data = model(
        [helper.make_node("MatMul", ["a", "b"], ["c"])], {"a": [2, 3, 5, 7], "b": [7, 4]}, {"c": [2, 3, 5, 4]}, {}
    )
    assert graph_work(data) == GraphWork(2 * (2 * 3 * 5) * 4 * 7, 0, 4 * (2 * 3 * 5 * 7 + 7 * 4 + 2 * 3 * 5 * 4))


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int) -> None:
    node = helper.make_node("Gemm", ["a", "w"], ["c"], transA=transposed)
    data = model([node], {"a": [5, 3] if transposed else [3, 5]}, {"c": [3, 4]}, {"w": np.ones((5, 4), np.float32)})
    assert graph_work(data) == GraphWork(2 * 3 * 4 * 5, 20, 4 * (15 + 12))


def test_convolutions_sum_over_the_channels_of_a_group() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, strides=[2, 2])
    data = model([node], {"x": [1, 8, 10, 12]}, {"y": [1, 6, 4, 5]}, {"w": np.ones((6, 4, 3, 3), np.float32)})
    work = graph_work(data)
    assert work is not None
    assert work.flops == 2 * (6 * 4 * 5) * (4 * 3 * 3)
    assert work.weights == 6 * 4 * 3 * 3


def test_shapes_in_between_are_inferred_though_weights_are_large() -> None:
    """Shapes may stand in constants; those are kept, weights are not."""
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([2, 64]), "shape")),
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
        helper.make_node("MatMul", ["y", "v"], ["z"]),
    ]
    constants = {"w": np.ones((64, 50), np.float32), "v": np.ones((50, 3), np.float32)}
    work = graph_work(model(nodes, {"x": [4, 32]}, {"z": [2, 3]}, constants))
    assert work is not None
    assert work.flops == 2 * 2 * 50 * 64 + 2 * 2 * 3 * 50
    assert work.weights == 64 * 50 + 50 * 3
    assert work.bytes("fp32") - work.bytes("fp16") == 2 * work.weights
    assert work.bytes("bf16") == 2 * work.weights + 4 * (128 + 6) + 2 * 8  # with the shape


def test_what_cannot_be_counted_is_not_guessed() -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    assert graph_work(model([node], {"a": ["rows", 5], "b": [5, 4]}, {"c": ["rows", 4]}, {})) is None
