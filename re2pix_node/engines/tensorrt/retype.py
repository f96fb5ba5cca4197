"""Rewrites ONNX graphs for TensorRT: uint8 only for inputs and outputs, and the heavy layers in half precision.

TensorRT takes the types of a strongly typed network from the graph, and TensorRT 11 has no other networks, so the graph
determines the precision. This module needs the onnx package, and is used only where engines are built.
"""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from re2pix_node.errors import EngineError

FLOAT, BYTE = TensorProto.FLOAT, TensorProto.UINT8
HALF_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
# These do nearly all of the work, and tensor cores sum them in fp32. ConvTranspose is not one of them: TensorRT-RTX 1.7
# fails to build one in bf16.
HEAVY = {"MatMul", "Gemm", "Conv"}
# These stay in half precision between two heavy layers, if all their inputs are. Layers that sum, divide by a sum,
# choose or place are not among them and stay in fp32: normalisations, softmax, pooling, resizing, sampling. A residual
# stream also stays in fp32, because its first layer is a sum with an fp32 tensor.
MOVES = {"Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Concat", "Gather", "Expand", "Identity"}
LIGHT = {"Add", "Sub", "Mul", "Div", "Erf", "Gelu", "Relu", "LeakyRelu", "Tanh", "Sigmoid"}


def for_tensorrt(data: bytes, precision: str) -> bytes:
    """The same graph, with the same inputs and outputs, in this precision."""
    model = onnx.load_from_string(data)
    del model.graph.value_info[:]  # these types are no longer true, and nothing needs them
    _constants_as_initialisers(model.graph)
    _bytes_at_the_edges(model.graph)
    if precision in HALF_TYPES:
        _Halving(model.graph, HALF_TYPES[precision]).apply()
    _drop_unused_weights(model.graph)
    return bytes(model.SerializeToString())


def _constants_as_initialisers(graph: onnx.GraphProto) -> None:
    """Constant nodes, and weights that are stored in half precision, as float32 again."""
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        elif node.op_type == "Cast" and node.input[0] in stored and node.attribute[0].i == FLOAT:
            values = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    _replace_nodes(graph, kept)


def _bytes_at_the_edges(graph: onnx.GraphProto) -> None:
    """TensorRT has uint8 for inputs and outputs only: in between, bytes become floats, which hold every byte exactly.

    Floats and not integers, because TensorRT documents the casts between uint8 and floats.
    """
    inputs = {value.name for value in graph.input if value.type.tensor_type.elem_type == BYTE}
    outputs = {value.name for value in graph.output if value.type.tensor_type.elem_type == BYTE}
    renamed = {name: f"{name}.float" for name in inputs | outputs}
    held = set(inputs)  # tensors of bytes
    for tensor in graph.initializer:
        if tensor.data_type == BYTE:
            held.add(tensor.name)
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in graph.node:
        to = next((attribute for attribute in node.attribute if attribute.name == "to"), None)
        if node.op_type == "Cast" and to is not None and to.i == BYTE:
            to.i = FLOAT
            held.update(node.output)
        elif node.op_type != "Cast" and held.intersection(node.input):
            if node.op_type not in MOVES:
                raise EngineError(f"the graph computes with bytes ({node.op_type} {node.name}), TensorRT cannot")
            held.update(node.output)
        _rename(node, renamed)
    casts = [helper.make_node("Cast", [name], [renamed[name]], to=FLOAT) for name in sorted(inputs)]
    back = [helper.make_node("Cast", [renamed[name]], [name], to=BYTE) for name in sorted(outputs)]
    _replace_nodes(graph, [*casts, *graph.node, *back])


def _places(graph: onnx.GraphProto) -> set[str]:
    """Tensors that say where to sample, back to the outputs of the heavy layers they come from.

    They stay in full precision: a displacement of ten cells has a step of 1/16 cell in bf16, and it moves features.
    """
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    waiting = [node.input[1] for node in graph.node if node.op_type == "GridSample"]
    while waiting:
        name = waiting.pop()
        if name in found or name not in makers:
            continue
        node = makers[name]
        found.update(node.output)
        if node.op_type not in HEAVY:
            waiting.extend(node.input)
    return found


class _Halving:
    """Marks the tensors that can be in half precision, and inserts casts between the two kinds."""

    def __init__(self, graph: onnx.GraphProto, half: int) -> None:
        self.graph = graph
        self.half = half
        self.weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == FLOAT}
        self.other = {tensor.name for tensor in graph.initializer if tensor.data_type != FLOAT}
        self.places = _places(graph)
        self.halves: set[str] = set()  # tensors in half precision
        self.casts: dict[str, str] = {}  # tensor -> the same in the other type
        self.nodes: list[onnx.NodeProto] = []

    def apply(self) -> None:
        outputs = {value.name for value in self.graph.output}
        for node in self.graph.node:
            delicate = self.places.intersection(node.output)
            if not delicate and (node.op_type in HEAVY or self._follows(node)):
                self._in_half(node, outputs)
            else:
                self._switch(node, [name for name in node.input if name in self.halves], FLOAT)
                self.nodes.append(node)
        _replace_nodes(self.graph, self.nodes)

    def _follows(self, node: onnx.NodeProto) -> bool:
        """Whether a light node has inputs in half precision and none in full precision."""
        if node.op_type not in MOVES | LIGHT:
            return False
        computed = [name for name in node.input if name and name not in self.weights and name not in self.other]
        return bool(computed) and self.halves.issuperset(computed)

    def _in_half(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        full = [name for name in node.input if name and name not in self.halves and name not in self.other]
        self._switch(node, full, self.half)
        back = {name: f"{name}.half" for name in node.output if name in outputs}
        self.nodes.append(node)
        if back:  # the graph's outputs keep their types
            _rename(node, back)
            for name, renamed in back.items():
                self.casts[renamed] = name
                self.nodes.append(helper.make_node("Cast", [renamed], [name], to=FLOAT))
        self.halves.update(node.output)

    def _switch(self, node: onnx.NodeProto, names: Iterable[str], to: int) -> None:
        """Make the node read these tensors in the other type."""
        for name in names:
            if name not in self.casts:
                self.casts[name] = f"{name}.cast"
                if name in self.weights:
                    self.graph.initializer.append(_halved(self.weights[name], self.casts[name], self.half))
                else:
                    self.nodes.append(helper.make_node("Cast", [name], [self.casts[name]], to=to))
        _rename(node, {name: self.casts[name] for name in names}, outputs=False)


def _drop_unused_weights(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _halved(tensor: onnx.TensorProto, name: str, half: int) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    if half == TensorProto.FLOAT16:
        # Values beyond the range become infinity: the proof then fails, and bf16 is tried.
        with np.errstate(over="ignore"):
            return numpy_helper.from_array(values.astype(np.float16), name)
    # The upper half of a float32, rounded to nearest, ties to even.
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return helper.make_tensor(name, half, values.shape, rounded.tobytes(), raw=True)


def _rename(node: onnx.NodeProto, names: dict[str, str], outputs: bool = True) -> None:
    for field in (node.input, node.output) if outputs else (node.input,):
        for i, name in enumerate(field):
            field[i] = names.get(name, name)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
