"""Hostile bundles: damaged graphs, manifests and proofs with right hashes, and graphs that harm engines."""

import functools
import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.engines.session import open_engine
from tests.hostile.mutate import EDGES, damaged
from tests.support import hostile_graphs
from tests.support.tiny_bundle import make_tiny_bundle

GRAPHS = ("encode", "forecast")
LOCATIONS = ("weights.bin", "../x", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", "", "bundle.yaml")


@functools.cache
def whole() -> Path:
    return make_tiny_bundle(Path(tempfile.mkdtemp(prefix="hostile-tiny-")) / "tiny").path


def forget() -> None:
    """Remove the bundle that cases are made from."""
    shutil.rmtree(whole().parent)
    whole.cache_clear()


def make_bundle(rng: np.random.Generator, folder: Path) -> Path:
    graph = str(rng.choice(GRAPHS))
    data = (whole() / f"{graph}.onnx").read_bytes()
    way = int(rng.integers(5))
    if way == 0:
        return _with_manifest(rng, folder)
    if way == 1:
        data = damaged(rng, data)
    elif way == 2:
        data = hostile_graphs.external(data, str(rng.choice(LOCATIONS)), int(rng.integers(-(2**40), 2**40)))
    elif way == 3:
        data = hostile_graphs.vast(data, int(rng.choice([d for d in EDGES if d < 2**63])))
    else:
        data = _with_odd_fields(rng, data)
    return hostile_graphs.with_graph(whole(), folder / "b", **{graph: data})


def make_proof(rng: np.random.Generator, folder: Path) -> Path:
    data = (whole() / "proof.npz").read_bytes()
    if rng.integers(2):
        data = damaged(rng, data)
    else:
        arrays = dict(np.load(io.BytesIO(data)))
        name = str(rng.choice(list(arrays)))
        values = arrays[name].copy()
        spot = int(rng.integers(values.size))
        if values.dtype.kind == "f":
            values.reshape(-1)[spot] = rng.choice([np.nan, np.inf, -np.inf, 3e38])
        else:
            values.reshape(-1)[spot] = rng.integers(256)
        kinds = ["float64", "int64", "complex64", "S8", values.dtype.name]
        arrays[name] = [values, values[:0], np.zeros((2000, 2000)), values.astype(str(rng.choice(kinds)))][
            rng.integers(4)
        ]
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        data = packed.getvalue()
    return hostile_graphs.with_graph(whole(), folder / "b", proof=data)


def make_engine_case(rng: np.random.Generator, folder: Path) -> Path:
    """Graphs that our own reader lets pass, and that may harm an engine."""
    data = (whole() / "encode.onnx").read_bytes()
    way = int(rng.integers(4))
    if way == 0:
        data = hostile_graphs.endless(data)
    elif way == 1:
        data = hostile_graphs.vast_inside(data, int(rng.choice([2**33, 2**40, 2**62])))
    else:
        data = _with_odd_fields(rng, data)
    return hostile_graphs.with_graph(whole(), folder / "b", encode=data)


def read(path: Path) -> None:
    read_bundle(path)


def read_and_open(path: Path) -> None:
    os.environ.pop("RE2PIX_TRIAL", None)
    os.environ |= {"RE2PIX_MAX_LOAD_SECONDS": "3", "XDG_CACHE_HOME": str(path / "cache")}
    open_engine(read_bundle(path), "onnxruntime", threads=1)


def _with_manifest(rng: np.random.Generator, folder: Path) -> Path:
    path = Path(shutil.copytree(whole(), folder / "b"))
    manifest = path / "bundle.yaml"
    text = manifest.read_bytes()
    if rng.integers(2):
        manifest.write_bytes(damaged(rng, text))
        return path
    fields = yaml.safe_load(text)
    section = fields
    for _ in range(int(rng.integers(1, 4))):
        name = list(section)[rng.integers(len(section))] if isinstance(section, dict) else 0
        inner = section[name]
        if not isinstance(inner, dict) or not inner:
            break
        section = inner
    odd = [2**62, -1, 0, 1e300, 1e-300, float("nan"), "", "\x1b[2J\n", [], {}, None, True, [[1]] * 50, "x" * 10_000]
    section[list(section)[rng.integers(len(section))]] = odd[rng.integers(len(odd))]
    manifest.write_text(yaml.safe_dump(fields))
    return path


def _with_odd_fields(rng: np.random.Generator, data: bytes) -> bytes:
    """A whole graph with a few fields changed."""
    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(int(rng.integers(1, 4))):
        node = graph.node[rng.integers(len(graph.node))]
        tensor = graph.initializer[rng.integers(len(graph.initializer))]
        names = [name for each in graph.node for name in (*each.input, *each.output)]
        way = int(rng.integers(7))
        if way == 0:
            node.op_type = str(rng.choice(["Loop", "Scan", "If", "Resize", "Gather", "Tile", "Nonsense", "Pad", ""]))
        elif way == 1 and node.input:
            node.input[rng.integers(len(node.input))] = str(rng.choice(names))
        elif way == 2 and node.attribute:
            node.attribute[rng.integers(len(node.attribute))].ints.extend([int(rng.integers(-(2**62), 2**62))])
        elif way == 3 and tensor.data_type == TensorProto.INT64:
            tensor.raw_data = rng.integers(-(2**62), 2**62, len(tensor.raw_data) // 8).tobytes()
        elif way == 4:
            graph.input[0].type.tensor_type.shape.dim[rng.integers(4)].dim_value = int(rng.integers(-5, 2**40))
        elif way == 5:
            tensor.data_type = int(rng.integers(0, 30))
        else:
            del graph.node[rng.integers(len(graph.node))]
            if not graph.node:
                break
    return model.SerializeToString()
