"""Engines: agreement with the reference and with each other, and what happens when they disagree."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.engines import session
from re2pix_node.engines.base import ForecastArrays, Runtime
from re2pix_node.engines.proof import compare, prove
from re2pix_node.engines.registry import runtimes
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import BundleError, EngineError
from tests.support.drive import frame
from tests.support.hostile_graphs import unknown_operator
from tests.support.tiny_bundle import encode_graph, forecast_graph, tiny_manifest

ON_CPU = [runtime for runtime in runtimes() if runtime.name != "tensorrt"]
HERE = [(runtime.name, precision) for runtime in ON_CPU for precision in runtime.precisions()]


def test_both_engines_are_here() -> None:
    assert {name for name, _ in HERE} == {"onnxruntime", "openvino"}


@pytest.mark.parametrize(("name", "precision"), HERE)
def test_every_engine_proves_itself(tiny: Bundle, name: str, precision: str) -> None:
    engine, attempts = open_engine(tiny, name, precision, threads=2)
    proof = attempts[-1].proof
    assert (engine.name, engine.precision) == (name, precision)
    assert proof is not None
    assert proof.passed
    # Far inside the bounds in fp32: the engines compute the graph, not something like it.
    if precision == "fp32":
        assert proof.relative_l2 < 1e-5
        assert proof.agreement > 0.9999


def test_openvino_and_onnxruntime_agree_on_frames_that_are_not_in_the_proof(tiny: Bundle) -> None:
    frames = [frame(5 + 0.17 * i, 256, 128)[None] for i in range(4)]
    outputs = {}
    for name in ("openvino", "onnxruntime"):
        engine, _ = open_engine(tiny, name, "fp32")
        outputs[name] = engine.forecast([engine.encode(f) for f in frames])
    a, b = outputs.values()
    np.testing.assert_allclose(a.features, b.features, atol=1e-4)
    assert np.mean(a.labels == b.labels) > 0.999
    assert len(np.unique(a.labels)) >= 4  # the scene is not one flat label
    assert a.labels.dtype == a.confidence.dtype == np.uint8


@pytest.mark.parametrize(("name", "precision"), HERE)
def test_results_are_not_overwritten_by_the_next_run(tiny: Bundle, name: str, precision: str) -> None:
    engine, _ = open_engine(tiny, name, precision)
    first = engine.encode(frame(0, 256, 128)[None])
    before = engine.fetch(first).copy()
    engine.encode(frame(9, 256, 128)[None])
    np.testing.assert_array_equal(engine.fetch(first), before)


@pytest.mark.parametrize(("name", "precision"), HERE)
def test_runs_repeat_to_the_bit(tiny: Bundle, name: str, precision: str) -> None:
    frames = [frame(0.2 * i, 256, 128)[None] for i in range(4)]
    results = []
    for _ in range(2):
        engine, _attempts = open_engine(tiny, name, precision)
        results.append(engine.forecast([engine.encode(f) for f in frames]))
    np.testing.assert_array_equal(results[0].features, results[1].features)
    np.testing.assert_array_equal(results[0].labels, results[1].labels)


def test_auto_takes_the_first_that_proves_itself(tiny: Bundle) -> None:
    engine, attempts = open_engine(tiny)
    assert engine.name == "openvino"
    assert [attempt.fault for attempt in attempts if attempt.engine != "tensorrt"] == [None]


def rewrite(bundle: Bundle, path: Path, **bounds: float) -> Bundle:
    """A copy of a bundle with other bounds on its proof."""
    shutil.copytree(bundle.path, path)
    proof = dataclasses.replace(bundle.manifest.proof, **bounds)
    return Bundle(path, dataclasses.replace(bundle.manifest, proof=proof))


def test_a_failed_proof_falls_back_to_the_next_precision(tiny: Bundle, tmp_path: Path) -> None:
    if ("openvino", "bf16") not in HERE:
        pytest.skip("this CPU has no bf16")
    strict = rewrite(tiny, tmp_path / "strict", relative_l2=1e-4, agreement=0.9999)
    engine, attempts = open_engine(strict)
    assert (engine.name, engine.precision) == ("openvino", "fp32")
    assert "relative L2" in str(attempts[-2])
    assert "exceeds 0.0001" in str(attempts[-2])


class _Wrong:
    """A runtime's engine with one wrong output, as from a miscompiled graph."""

    def __init__(self, engine, bend) -> None:
        self._engine = engine
        self._bend = bend

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def forecast(self, context, noise=None) -> ForecastArrays:
        return self._bend(self._engine.forecast(context, noise))


def nan_somewhere(outputs: ForecastArrays) -> ForecastArrays:
    features = outputs.features.copy()
    features[0, 0, 0, 0, 0] = np.nan
    return dataclasses.replace(outputs, features=features)


@pytest.mark.parametrize(
    ("bend", "expected"),
    [
        (nan_somewhere, "relative L2 inf"),
        (lambda o: dataclasses.replace(o, features=o.features * 1.1), "relative L2 0.1"),
        (lambda o: dataclasses.replace(o, features=o.features[:, :, ::-1]), "cosine"),
        (lambda o: dataclasses.replace(o, labels=np.roll(o.labels, 40, axis=-1)), "of labels agree"),
        (lambda o: dataclasses.replace(o, confidence=255 - o.confidence), "confidence is off"),
    ],
)
def test_a_wrong_engine_is_passed_over_with_its_figures(tiny: Bundle, monkeypatch, bend, expected: str) -> None:
    good, reference = ON_CPU
    bent = dataclasses.replace(good, load=lambda *given: _Wrong(good.load(*given), bend))
    monkeypatch.setattr(session, "runtimes", lambda: (bent, reference))
    engine, attempts = open_engine(tiny)
    assert engine.name == "onnxruntime"
    assert all(expected in str(attempt) for attempt in attempts[:-1])


def test_when_nothing_is_left_every_reason_is_given(tiny: Bundle, tmp_path: Path) -> None:
    bundle = rewrite(tiny, tmp_path / "impossible", relative_l2=0.0, cosine=1.0, agreement=1.0, confidence=0.0)
    with pytest.raises(EngineError) as caught:
        open_engine(bundle)
    assert "openvino fp32" in str(caught.value)
    assert "onnxruntime fp32" in str(caught.value)


def test_an_engine_that_is_not_installed_is_passed_over(tiny: Bundle, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    engine, attempts = open_engine(tiny)
    assert engine.name == "onnxruntime"
    assert "pip install openvino" in str(attempts[-2])
    with pytest.raises(EngineError, match="pip install openvino"):
        open_engine(tiny, "openvino")


@pytest.mark.parametrize(("engine", "precision"), [("tensorflow", "auto"), ("auto", "int4")])
def test_unknown_choices_are_named_with_the_known_ones(tiny: Bundle, engine: str, precision: str) -> None:
    with pytest.raises(EngineError, match=r"choose one of auto, .*"):
        open_engine(tiny, engine, precision)


def test_a_precision_the_engine_does_not_offer(tiny: Bundle) -> None:
    with pytest.raises(EngineError, match="onnxruntime bf16: this machine does not offer it, only fp32"):
        open_engine(tiny, "onnxruntime", "bf16")


def test_an_engine_fault_at_run_time_says_what_and_where(tiny: Bundle) -> None:
    engine, _ = open_engine(tiny, "onnxruntime")
    with pytest.raises(EngineError, match="onnxruntime fp32: encode failed"):
        engine.encode(np.zeros((1, 5, 5, 3), np.uint8))


@pytest.mark.parametrize("runtime", ON_CPU, ids=lambda runtime: runtime.name)
class TestGraphsThatDoNotFitTheManifest:
    """Hashes and proof are right, but the graph is another one: only loading it shows that."""

    @staticmethod
    def load(runtime, tmp_path: Path, graph: str, other) -> str:
        manifest = tiny_manifest()
        good = {"encode": encode_graph(manifest), "forecast": forecast_graph(manifest)}
        wrong = other(good[graph], manifest)
        path = tmp_path / "bundle"
        path.mkdir()
        (path / f"{graph}.onnx").write_bytes(wrong.SerializeToString())
        import hashlib

        entry = dataclasses.replace(
            getattr(manifest.graphs, graph), sha256=hashlib.sha256(wrong.SerializeToString()).hexdigest()
        )
        graphs = {name: model.SerializeToString() for name, model in good.items()}
        for name, data in graphs.items():
            if name != graph:
                (path / f"{name}.onnx").write_bytes(data)
        entries = {
            name: dataclasses.replace(
                getattr(manifest.graphs, name), sha256=hashlib.sha256((path / f"{name}.onnx").read_bytes()).hexdigest()
            )
            for name in graphs
        }
        entries[graph] = entry
        bundle = Bundle(path, dataclasses.replace(manifest, graphs=dataclasses.replace(manifest.graphs, **entries)))
        with pytest.raises((BundleError, EngineError)) as caught:
            runtime.load(bundle, "fp32", 1)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_another_grid(self, runtime, tmp_path: Path) -> None:
        message = self.load(runtime, tmp_path, "encode", lambda _, m: encode_graph(tiny_manifest(height=64)))
        assert (
            "encode.onnx: the input 'frame' is uint8 [1, 64, 256, 3], the manifest asks for uint8 [1, 128, 256, 3]"
            in message
        )

    def test_another_number_of_horizons(self, runtime, tmp_path: Path) -> None:
        message = self.load(runtime, tmp_path, "forecast", lambda _, m: forecast_graph(tiny_manifest(horizons=2)))
        assert "forecast.onnx: the output 'features' is float32 [1, 2, 16, 32, 16]" in message

    def test_another_context(self, runtime, tmp_path: Path) -> None:
        message = self.load(runtime, tmp_path, "forecast", lambda _, m: forecast_graph(tiny_manifest(context=3)))
        assert "forecast.onnx: the input 'context_3' is missing" in message

    def test_another_name(self, runtime, tmp_path: Path) -> None:
        def rename(model: onnx.ModelProto, _) -> onnx.ModelProto:
            model.graph.output[0].name = model.graph.node[-1].output[0] = "feature"
            return model

        message = self.load(runtime, tmp_path, "encode", rename)
        assert "encode.onnx: the output 'feature" in message

    def test_no_graph_at_all(self, runtime, tmp_path: Path) -> None:
        class Garbage:
            def SerializeToString(self) -> bytes:  # noqa: N802
                return b"this is no graph"

        message = self.load(runtime, tmp_path, "encode", lambda *_: Garbage())
        assert "encode.onnx: the ONNX file is incomplete or damaged" in message

    def test_an_operator_that_does_not_exist(self, runtime, tmp_path: Path) -> None:
        def spoil(model: onnx.ModelProto, _) -> onnx.ModelProto:
            return onnx.load_from_string(unknown_operator(model))

        assert "cannot load encode.onnx" in self.load(runtime, tmp_path, "encode", spoil)


def test_the_proof_of_the_reference_against_itself_is_perfect(tiny: Bundle) -> None:
    proof = compare(tiny.proof(), tiny.proof(), tiny.manifest.proof)
    assert (proof.relative_l2, round(proof.cosine, 12), proof.agreement, proof.confidence) == (0, 1, 1, 0)
    assert proof.passed


@pytest.mark.parametrize("name", ["encode.features", "forecast.features"])
def test_a_reference_with_nan_proves_nothing(tiny: Bundle, name: str) -> None:
    reference = tiny.proof()
    reference[name] = reference[name].copy()
    reference[name].reshape(-1)[3] = np.nan
    found = {key: np.zeros_like(array) if "features" in key else array for key, array in tiny.proof().items()}
    assert not compare(found, reference, tiny.manifest.proof).passed


def test_prove_runs_every_graph(tiny: Bundle) -> None:
    engine, _ = open_engine(tiny, "onnxruntime")
    ran = []

    class Watched:
        def __getattr__(self, name):
            ran.append(name)
            return getattr(engine, name)

    assert prove(Watched(), read_bundle(tiny.path)).passed
    assert {"encode", "forecast"} <= set(ran)


def test_openvino_refuses_on_one_thread_what_it_would_get_wrong_unseen(tmp_path: Path) -> None:
    from tests.support.faulty_bundle import make_faulty_bundle

    bundle = make_faulty_bundle(tmp_path / "faulty")
    with pytest.raises(EngineError, match="data-dependent shapes on one thread"):
        open_engine(bundle, "openvino", threads=1)
    engine, _ = open_engine(bundle, "openvino", threads=2)
    assert engine.name == "openvino"


@pytest.mark.parametrize("last", ["Cast", "Transpose", "Identity"])
@pytest.mark.parametrize("runtime", ON_CPU, ids=lambda runtime: runtime.name)
def test_an_output_keeps_its_name_where_its_last_operation_does_nothing(runtime: Runtime, last: str) -> None:
    # OpenVINO folds such an operation, and the output then had two names.
    wanted = {"Cast": {"to": onnx.TensorProto.FLOAT}, "Transpose": {"perm": [0]}, "Identity": {}}[last]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Mul", ["x", "x"], ["squares"]),
            onnx.helper.make_node(last, ["squares"], ["y"], **wanted),
        ],
        "graph",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    assert runtime.load_graph is not None
    loaded = runtime.load_graph(model.SerializeToString(), "fp32", 2)
    assert list(loaded.signature.outputs) == ["y"]
    assert loaded.run({"x": np.array([2, 3], np.float32)})["y"].tolist() == [4, 9]
