"""Graphs that no engine may see: incomplete, or with something that is not in the file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from re2pix_node.bundle.onnx_check import check_onnx
from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.errors import BundleError
from tests.support import hostile_graphs


def refused(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        check_onnx(data, "there.onnx")
    message = str(caught.value)
    assert message.startswith("there.onnx: ")
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def graph(tiny: Bundle) -> bytes:
    return (tiny.path / "forecast.onnx").read_bytes()


def test_a_truncated_graph_is_refused_at_every_length(graph: bytes) -> None:
    for length in [*range(400), *range(400, len(graph), 997), len(graph) - 1]:
        assert "incomplete" in refused(graph[:length])


@pytest.mark.parametrize(
    ("location", "offset"),
    [("*/_ORT_MEM_ADDR_/*", 140737488355328), ("weights.bin", 0), ("../x", 0), ("/etc/passwd", 0), ("w", -(2**40))],
)
def test_weights_in_another_file_are_refused(tiny: Bundle, tmp_path: Path, location: str, offset: int) -> None:
    data = hostile_graphs.external((tiny.path / "encode.onnx").read_bytes(), location, offset)
    path = hostile_graphs.with_graph(tiny.path, tmp_path / "b", encode=data)
    (path / "weights.bin").write_bytes(bytes(100_000))
    with pytest.raises(BundleError, match=r"encode\.onnx: has weights in another file"):
        read_bundle(path)


def hidden(where: str, tensor: onnx.TensorProto) -> bytes:
    """A graph with the tensor in a place where engines look too."""
    model = helper.make_model(helper.make_graph([], "g", [], []))
    inner = helper.make_graph([], "inner", [], [], [tensor])
    if where == "constant":
        model.graph.node.append(helper.make_node("Constant", [], ["x"], value=tensor))
    elif where == "branch":
        model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=inner))
    elif where == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    elif where == "second graph":  # protobuf merges the two
        more = onnx.ModelProto()
        more.graph.CopyFrom(inner)
        return model.SerializeToString() + more.SerializeToString()
    return model.SerializeToString()


@pytest.mark.parametrize("where", ["constant", "branch", "sparse", "second graph"])
def test_weights_in_another_file_are_found_everywhere(where: str) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    assert "weights in another file" in refused(hidden(where, tensor))
    tensor.ClearField("data_location")  # named, but not in use: some readers look at this only
    assert "weights in another file" in refused(hidden(where, tensor))
    check_onnx(hidden(where, numpy_helper.from_array(np.ones(4, np.float32), "w")), "there.onnx")


@pytest.mark.parametrize("dimension", [2**62, 2**31 + 1, -1, 3, 0])
def test_a_tensor_has_as_many_values_as_it_says(graph: bytes, dimension: int) -> None:
    message = refused(hostile_graphs.vast(graph, dimension))
    assert ("RE2PIX_MAX_TENSOR_VALUES" in message) == (dimension not in (0, 3))


def test_a_declared_shape_must_be_possible(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**62
    assert "RE2PIX_MAX_TENSOR_VALUES" in refused(model.SerializeToString())


@pytest.mark.parametrize("packed", [True, False], ids=["values", "raw"])
@pytest.mark.parametrize(
    "kind", ["float32", "float16", "int64", "int32", "uint8", "bool", "float64", "bfloat16", "int4"]
)
def test_tensors_of_every_kind_pass_and_short_ones_do_not(kind: str, packed: bool) -> None:
    number = getattr(TensorProto, {"float32": "FLOAT", "float64": "DOUBLE"}.get(kind, kind.upper()))
    if packed:
        tensor = helper.make_tensor("w", number, [3, 5], [1] * 15)
    else:
        bits = {"float16": 16, "bfloat16": 16, "float32": 32, "int32": 32, "int64": 64, "float64": 64, "int4": 4}
        size = -(-15 * bits.get(kind, 8) // 8)
        tensor = TensorProto(name="w", data_type=number, dims=[3, 5], raw_data=bytes(size))
    check_onnx(hidden("constant", tensor), "there.onnx")
    tensor.dims[1] = 7
    assert "has data for another number" in refused(hidden("constant", tensor))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)), "domain 'com.microsoft'"),
        (lambda m: setattr(m.graph.node[0], "domain", "evil"), "another domain"),
        (lambda m: m.functions.add(name="f"), "functions of its own"),
        (lambda m: m.training_info.add(), "training steps"),
        (lambda m: m.graph.initializer.add(name="t", data_type=TensorProto.STRING), "the ONNX type 8"),
        (lambda m: m.ClearField("graph"), "incomplete"),
    ],
)
def test_what_no_bundle_needs_is_refused(graph: bytes, edit, expected: str) -> None:
    model = onnx.load_from_string(graph)
    edit(model)
    assert expected in refused(model.SerializeToString())


def test_nesting_and_numbers_of_fields_are_limited(monkeypatch: pytest.MonkeyPatch, graph: bytes) -> None:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(10):
        inner = helper.make_graph([helper.make_node("If", ["c"], ["x"], then_branch=inner)], "g", [], [])
    assert "nested too deeply" in refused(helper.make_model(inner).SerializeToString())
    monkeypatch.setenv("RE2PIX_MAX_GRAPH_FIELDS", "50")
    assert "too many protobuf fields, the limit is 50 fields: set RE2PIX_MAX_GRAPH_FIELDS" in refused(graph)


@pytest.mark.parametrize("name", ["encode", "forecast", "render"])
def test_the_bundle_that_ships_passes(name: str) -> None:
    data = (Path(__file__).parents[2] / f"models/re2pix-nano/{name}.onnx").read_bytes()
    check_onnx(data, name)
