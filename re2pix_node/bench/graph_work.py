"""The work of a graph: its arithmetic, and the memory that it must touch at least once. Needs the onnx package."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

SHAPES_MAX = 4096  # bytes; constants up to this size can be the shapes that shape inference needs
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class GraphWork:
    """The work of one run of a graph."""

    flops: int  # two for each multiply-add of MatMul, Gemm and Conv
    weights: int  # floating-point elements
    other: int  # bytes of all other constants, of inputs and of outputs

    def bytes(self, precision: str) -> int:
        """Bytes to read and write everything once, with the weights in this precision."""
        return self.weights * (4 if precision == "fp32" else 2) + self.other


def graph_work(data: bytes) -> GraphWork | None:
    """The work of a graph; None if the arithmetic depends on shapes that the graph leaves open."""
    import onnx

    model = onnx.load_from_string(data)
    constants = _constants(model.graph)
    weights = sum(prod(tensor.dims) for tensor in constants.values() if _is_float(tensor))
    other = sum(_size(tensor.data_type, tensor.dims) for tensor in constants.values() if not _is_float(tensor))
    for tensor in constants.values():
        if len(tensor.raw_data) > SHAPES_MAX:  # inference would copy gigabytes of them
            tensor.ClearField("raw_data")
    edges = [value.type.tensor_type for value in (*model.graph.input, *model.graph.output)]
    other += sum(_size(edge.elem_type, [d.dim_value for d in edge.shape.dim]) for edge in edges)
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = _shapes(graph) | {name: tuple(tensor.dims) for name, tensor in constants.items()}
    try:
        flops = sum(FLOPS[node.op_type](node, shapes) for node in graph.node if node.op_type in FLOPS)
    except KeyError:  # an unknown shape
        return None
    return GraphWork(flops, weights, other)


def _constants(graph: "onnx.GraphProto") -> "dict[str, onnx.TensorProto]":
    values = {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return {tensor.name: tensor for tensor in graph.initializer} | values


def _is_float(tensor: "onnx.TensorProto") -> bool:
    import onnx

    kinds = onnx.TensorProto
    return tensor.data_type in (kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE)


def _size(kind: int, shape: "list[int]") -> int:
    import onnx

    return prod(shape) * int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize)


def _shapes(graph: "onnx.GraphProto") -> Shapes:
    """The shapes of all tensors whose shape is completely known."""
    shapes = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        dimensions = value.type.tensor_type.shape.dim
        if all(dimension.HasField("dim_value") for dimension in dimensions):
            shapes[value.name] = tuple(dimension.dim_value for dimension in dimensions)
    return shapes


def _matmul(node: "onnx.NodeProto", shapes: Shapes) -> int:
    return 2 * prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: "onnx.NodeProto", shapes: Shapes) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return 2 * prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]


def _conv(node: "onnx.NodeProto", shapes: Shapes) -> int:
    # The weight is [out, in / groups, *kernel]: all but the first are summed over for each output.
    return 2 * prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])


FLOPS: "dict[str, Callable[[onnx.NodeProto, Shapes], int]]" = {"MatMul": _matmul, "Gemm": _gemm, "Conv": _conv}
