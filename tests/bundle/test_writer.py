"""Writing a bundle: graphs and proof must be right, and weights are stored as float16 where that loses nothing."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.bundle.writer import write_bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import BundleError
from tests.support.tiny_bundle import encode_graph, forecast_graph, make_tiny_bundle, reference_proof, tiny_manifest


def test_nothing_is_left_of_a_bundle_that_is_wrong(tmp_path: Path) -> None:
    manifest = tiny_manifest()
    graphs = {"encode": encode_graph(manifest), "forecast": forecast_graph(manifest)}
    proof = reference_proof(manifest, graphs)
    proof["forecast.labels"] = proof["forecast.labels"][:, :1]
    with pytest.raises(BundleError, match=r"forecast\.labels"):
        write_bundle(tmp_path / "bad", manifest, graphs, proof)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_kept_unless_replaced(tmp_path: Path) -> None:
    first = make_tiny_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="exists already"):
        make_tiny_bundle(tmp_path / "b", tiny_manifest(horizons=1))
    assert read_bundle(tmp_path / "b").manifest == first.manifest
    make_tiny_bundle(tmp_path / "b", tiny_manifest(horizons=1), replace=True)
    assert read_bundle(tmp_path / "b").manifest.time.horizons == (1,)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda g: g.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1)), "domain 'com.microsoft'"),
        (lambda g: setattr(g.opset_import[0], "version", 22), "opset 22 is newer than 20"),
        (lambda g: setattr(g.graph.node[0], "op_type", "Nonsense"), "not a valid ONNX graph"),
        (lambda g: setattr(g.graph.initializer[0], "data_location", onnx.TensorProto.EXTERNAL), "in another file"),
    ],
)
def test_graphs_that_not_every_engine_can_run_are_refused(tmp_path: Path, edit, expected: str) -> None:
    manifest = tiny_manifest()
    graphs = {"encode": encode_graph(manifest), "forecast": forecast_graph(manifest)}
    proof = reference_proof(manifest, graphs)
    edit(graphs["encode"])
    with pytest.raises(BundleError, match=expected):
        write_bundle(tmp_path / "b", manifest, graphs, proof)
    assert list(tmp_path.iterdir()) == []


def test_weights_are_stored_in_half_only_where_that_loses_nothing(tmp_path: Path) -> None:
    """In all else the graph stays what it was."""
    manifest = tiny_manifest()
    graphs = {"encode": encode_graph(manifest), "forecast": forecast_graph(manifest)}
    proof = reference_proof(manifest, graphs)
    model = graphs["encode"]
    values = np.arange(2048, dtype=np.float32)
    kept = {"exact": values, "inexact": values + 1 / 3, "large": values * 1e6, "small": values[:100]}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in kept.items())
    inputs, outputs = list(model.graph.input), list(model.graph.output)
    bundle = write_bundle(tmp_path / "b", manifest, graphs, proof)
    graph = onnx.load_from_string(bundle.graph("encode")).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    assert {name for name, tensor in stored.items() if tensor.data_type == TensorProto.FLOAT16} == {"exact.stored"}
    np.testing.assert_array_equal(numpy_helper.to_array(stored["exact.stored"]), values)
    assert graph.node[0] == helper.make_node("Cast", ["exact.stored"], ["exact"], to=TensorProto.FLOAT)
    assert (list(graph.input), list(graph.output)) == (inputs, outputs)
    assert open_engine(bundle, "onnxruntime")[1][-1].proof.relative_l2 < 1e-5
