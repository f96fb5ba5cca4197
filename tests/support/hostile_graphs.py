"""Graphs that would harm an engine, with right hashes and a right signature."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

ENDLESS = 2**62


def rehash(bundle: Path, **files: bytes) -> Path:
    """Write these files of a bundle (`encode`, `forecast`, `proof`), with right hashes in its manifest."""
    manifest = yaml.safe_load((bundle / "bundle.yaml").read_text())
    entries = {**manifest["graphs"], "proof": manifest["proof"], "render": manifest.get("render")}
    for name, data in files.items():
        (bundle / entries[name]["file"]).write_bytes(data)
        entries[name]["sha256"] = hashlib.sha256(data).hexdigest()
    (bundle / "bundle.yaml").write_text(yaml.safe_dump(manifest))
    return bundle


def with_graph(bundle: Path, target: Path, **graphs: bytes) -> Path:
    """A copy of a bundle with other graphs."""
    return rehash(Path(shutil.copytree(bundle, target)), **graphs)


def unknown_operator(model: onnx.ModelProto) -> bytes:
    """The graph, whole, with an operator that no engine knows."""
    model.graph.node[0].op_type = "Nonsense"
    return model.SerializeToString()


def endless(data: bytes) -> bytes:
    """The graph, whose output `features` comes out of a loop of 2^62 rounds."""
    model = onnx.load_from_string(data)
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == "features":
                node.output[i] = "once"
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Sin", ["held"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    model.graph.node.append(helper.make_node("Loop", ["rounds", "yes", "once"], ["features"], body=body))
    for name, value in (("rounds", np.int64(ENDLESS)), ("yes", np.bool_(True))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model.SerializeToString()


def external(data: bytes, location: str, offset: int = 0) -> bytes:
    """The graph, with its first weights at a place outside of the file."""
    model = onnx.load_from_string(data)
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()


def vast(data: bytes, dimension: int = 2**62) -> bytes:
    """The graph, with a constant that claims a dimension like that."""
    model = onnx.load_from_string(data)
    model.graph.initializer.add(name="vast", data_type=TensorProto.FLOAT, dims=[dimension], raw_data=b"\0" * 16)
    return model.SerializeToString()


def vast_inside(data: bytes, dimension: int = 2**40) -> bytes:
    """The graph, whose features pass through a tensor of that size while it runs."""
    model = onnx.load_from_string(data)
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == "features":
                node.output[i] = "small"
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["vast_shape"], ["vast"]),
            helper.make_node("ReduceMax", ["vast"], ["zero"], keepdims=0),
            helper.make_node("Add", ["small", "zero"], ["features"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([dimension], np.int64), "vast_shape"))
    return model.SerializeToString()
