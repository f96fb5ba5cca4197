"""Bundles: a whole bundle is read, and a faulty one is refused with its fault."""

import contextlib
import dataclasses
import hashlib
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from re2pix_node.bundle.manifest import manifest_text, parse_manifest
from re2pix_node.bundle.reader import Bundle, read_bundle, render_signature, signatures
from re2pix_node.bundle.writer import write_bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import BundleError, EngineError
from re2pix_node.render import renderer
from tests.support.tiny_bundle import encode_graph, forecast_graph, make_tiny_bundle, reference_proof, tiny_manifest


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle, with a render graph."""
    return make_tiny_bundle(tmp_path_factory.mktemp("drawing") / "b", tiny_manifest(render=True))


@pytest.fixture
def copy(tiny: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.path, tmp_path / "copy"))


def edit_manifest(bundle: Path, edit) -> None:
    data = yaml.safe_load((bundle / "bundle.yaml").read_text())
    edit(data)
    (bundle / "bundle.yaml").write_text(yaml.safe_dump(data))


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    message = str(caught.value)
    assert "\n" not in message
    assert str(bundle) in message
    return message


def test_what_was_written_reads_back(tiny: Bundle) -> None:
    bundle = read_bundle(tiny.path)
    assert bundle.manifest == tiny.manifest
    assert bundle.basis == hashlib.sha256((tiny.path / "encode.onnx").read_bytes()).hexdigest()
    assert bundle.graph("forecast") == (tiny.path / "forecast.onnx").read_bytes()
    assert bundle.proof()["encode.frame"].shape == (1, 128, 256, 3)


def test_a_manifest_survives_its_own_text(tiny: Bundle) -> None:
    assert parse_manifest(manifest_text(tiny.manifest), "there") == tiny.manifest


@pytest.mark.parametrize("name", ["encode.onnx", "forecast.onnx", "proof.npz"])
@pytest.mark.parametrize("at", [0, 0.5, -1])
def test_one_flipped_byte_is_named(copy: Path, name: str, at: float) -> None:
    data = bytearray((copy / name).read_bytes())
    data[int(at * len(data)) if at >= 0 else -1] ^= 1
    (copy / name).write_bytes(data)
    message = refusal(copy)
    assert name in message
    assert "wrong sha256" in message


@pytest.mark.parametrize("name", ["encode.onnx", "forecast.onnx", "proof.npz", "bundle.yaml"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert f"{name} is missing" in refusal(copy)


def test_no_folder(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_a_graph_that_vanishes_after_reading_is_named(copy: Path) -> None:
    bundle = read_bundle(copy)
    (copy / "encode.onnx").unlink()
    with pytest.raises(BundleError, match=r"encode\.onnx is missing"):
        open_engine(bundle)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda m: m.update(schema=2), "schema version 2 is not supported"),
        (lambda m: m.pop("schema"), "schema version None is not supported"),
        (lambda m: m.update(colour="red"), "unknown field 'colour'"),
        (lambda m: m["image"].update(depth=3), "image: unknown field 'depth'"),
        (lambda m: m.pop("licence"), "the field 'licence' is missing"),
        (lambda m: m["time"].pop("jitter"), "time: the field 'jitter' is missing"),
        (lambda m: m["image"].update(height="128"), "image.height: expected a whole number, found text ('128')"),
        (lambda m: m["image"].update(height=True), "image.height: expected a whole number, found true or false (True)"),
        (lambda m: m["time"].update(stride=float("nan")), "time.stride: expected a number"),
        (lambda m: m["time"].update(horizons=[1, 1, 2]), "rising whole multiples"),
        (lambda m: m["time"].update(horizons=[]), "rising whole multiples"),
        (lambda m: m["time"].update(jitter=0.06), "jitter must lie from 0"),
        (lambda m: m["time"].update(context=10**9), "time: context must lie from 1 to 64, is 1000000000"),
        (lambda m: m["time"].update(context=0), "time: context must lie from 1 to 64, is 0"),
        (lambda m: m["time"].update(stride=10**400), "a number of 401 digits"),
        (lambda m: m["image"].update(height=2**32, width=2**32), "3] needs 55340232221128654848"),
        (lambda m: m["time"].update(stride_min=0.2), "stride_min <= stride"),
        (lambda m: m["labels"]["classes"][1].update(id=0), "class id occurs twice"),
        (lambda m: m["labels"]["classes"][1].update(id=255), "labels.classes[1]: id must lie from 0 to 254"),
        (lambda m: m["labels"]["classes"][0].update(color=[1, 2]), "labels.classes[0].color: expected 3 entries"),
        (lambda m: m["labels"].update(classes={}), "labels.classes: expected a list, found a mapping"),
        (lambda m: m["graphs"]["encode"].update(file="../encode.onnx"), "plain name inside the bundle"),
        (lambda m: m["graphs"]["encode"].update(file="/etc/passwd"), "plain name inside the bundle"),
        (lambda m: m["graphs"]["encode"].update(sha256="abc"), "64 lower-case hex digits"),
        (lambda m: m["graphs"].pop("forecast"), "graphs: the field 'forecast' is missing"),
        (lambda m: m["proof"].update(cosine=1.5), "cosine must lie from 0 to 1"),
        (lambda m: m["proof"].update(every=0), "every must be at least 1, is 0"),
        (lambda m: m["proof"].update(every=8), "'encode.features' has 32896 bytes, float32 [1024] needs 4096"),
        (lambda m: m.update(samples=0), "samples must be at least 1"),
        (lambda m: m["features"].update(channels=17), "'encode.features' has 32896 bytes, float32 [1, 16, 32, 17]"),
        (lambda m: m["features"].update(height=32, width=16), "'encode.features' is float32 [1, 16, 32, 16]"),
    ],
)
def test_a_wrong_manifest_is_named(copy: Path, edit, expected: str) -> None:
    edit_manifest(copy, edit)
    message = refusal(copy)
    assert "proof.npz" in message or "bundle.yaml" in message
    assert expected in message


def test_without_a_render_graph_a_manifest_reads_as_ever(tiny: Bundle, drawing: Bundle) -> None:
    fields = yaml.safe_load(manifest_text(tiny_manifest(render=True)))
    del fields["render"]
    old = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)
    assert manifest_text(tiny_manifest()) == old
    assert parse_manifest(old, "there") == tiny_manifest()
    assert [graph for graph in ("encode", "forecast") if drawing.graph(graph) != tiny.graph(graph)] == []


def test_a_render_graph_is_part_of_a_bundle(drawing: Bundle) -> None:
    bundle = read_bundle(drawing.path)
    assert bundle.manifest == drawing.manifest
    assert bundle.graph("render") == (drawing.path / "render.onnx").read_bytes()
    proof = bundle.proof()
    assert (proof["render.image"].dtype, proof["render.image"].shape) == (np.uint8, (1, 128, 256, 3))
    assert proof["render.noise"].shape == (1, 256)


WARMTH = {"name": "warmth", "dtype": "float32", "shape": [16, 32], "relative_l2": 0.02}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([WARMTH], "the array 'forecast.warmth' is missing"),  # of the proof
        ([WARMTH, {**WARMTH, "shape": [*WARMTH["shape"]]}], "an output occurs twice in ['warmth', 'warmth']"),
        ([{**WARMTH, "name": "labels"}], "outputs[0]: 'labels' cannot be the name of an optional output"),
        ([{**WARMTH, "name": "../warmth"}], "outputs[0]: name has odd characters: '../warmth'"),
        ([{**WARMTH, "dtype": "int64"}], "outputs[0]: dtype must be one of float32, float16, uint8, is 'int64'"),
        ([{**WARMTH, "shape": [16, 0]}], "outputs[0]: shape must be positive, is [16, 0]"),
        ([{**WARMTH, "relative_l2": 2}], "outputs[0]: relative_l2 must lie from 0 to 1, is 2"),
        ("warmth", "outputs: expected a list, found text ('warmth')"),
    ],
)
def test_bad_optional_outputs_are_named(copy: Path, outputs: object, expected: str) -> None:
    edit_manifest(copy, lambda manifest: manifest.update(outputs=outputs))
    assert expected in refusal(copy)


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"other")])
def test_a_damaged_render_graph_is_named(drawing: Bundle, tmp_path: Path, damage) -> None:
    path = Path(shutil.copytree(drawing.path, tmp_path / "copy"))
    damage(path / "render.onnx")
    assert "render.onnx" in refusal(path)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda m: m["render"].pop("psnr"), "render: the field 'psnr' is missing"),
        (lambda m: m["render"].update(steps=4), "render: unknown field 'steps'"),
        (lambda m: m["render"].update(noise=0), "render: noise must be at least 1, is 0"),
        (lambda m: m["render"].update(noise=2.5), "render.noise: expected a whole number, found a number (2.5)"),
        (lambda m: m["render"].update(psnr=-1), "render: psnr must be positive, is -1"),
        (lambda m: m["render"].update(file="../render.onnx"), "plain name inside the bundle"),
        (lambda m: m["render"].update(sha256="abc"), "64 lower-case hex digits"),
        (lambda m: m.update(render="render.onnx"), "render: expected a mapping of fields, found text"),
        (lambda m: m.update(render=None), "the array 'render.image' is unknown"),
        (lambda m: m["render"].update(noise=255), "'render.noise' is float32 [1, 256], the manifest asks for"),
    ],
)
def test_a_wrong_render_field_is_named(drawing: Bundle, tmp_path: Path, edit, expected: str) -> None:
    path = Path(shutil.copytree(drawing.path, tmp_path / "copy"))
    edit_manifest(path, edit)
    assert expected in refusal(path)


def test_a_proof_of_a_sample_of_the_features_judges_like_a_whole_one(tmp_path: Path) -> None:
    manifest = tiny_manifest(render=True, warmth=True)
    whole = make_tiny_bundle(tmp_path / "whole", manifest)
    sampled = dataclasses.replace(manifest, proof=dataclasses.replace(manifest.proof, every=7))
    proof = whole.proof() | {"render.features": whole.proof()["forecast.features"][:1, -1]}
    graphs = {name: onnx.load_from_string(whole.graph(name)) for name in ("encode", "forecast", "render")}
    bundle = write_bundle(tmp_path / "sampled", sampled, graphs, proof)
    for name in ("forecast.features", "forecast.warmth"):
        np.testing.assert_array_equal(bundle.proof()[name], proof[name].ravel()[::7])
    shutil.rmtree(tmp_path / "whole")  # nothing is taken from there
    again = write_bundle(tmp_path / "again", sampled, graphs, bundle.proof())
    np.testing.assert_array_equal(again.proof()["forecast.features"], bundle.proof()["forecast.features"])
    assert open_engine(bundle, "onnxruntime")[1][-1].proof.relative_l2 < 1e-5
    assert all(attempt.graph for attempt in renderer.attempts(bundle) if attempt.name != "tensorrt")
    changed = graphs["encode"].graph.initializer[-1]
    changed.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(changed) * 1.1, changed.name))
    wrong = write_bundle(tmp_path / "wrong", sampled, graphs, proof)
    with pytest.raises(EngineError, match="relative L2"):
        open_engine(wrong, "onnxruntime")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "schema: 1\nname: !!python/object/apply:os.system ['touch HERE']\n",
            "line 2: the YAML tag 'tag:yaml.org,2002:python",
        ),
        ("schema: !!int 1\n", "line 1: the YAML tag 'tag:yaml.org,2002:int'"),
        ("a: &a [1, 2]\nb: [*a, *a]\n", "line 2: the YAML alias '*a'"),
        ("schema: 1\nname: x\nname: y\n", "line 3: the field 'name' occurs twice"),
        ("schema: [1\n", "not valid YAML"),
        ("version: 2024-13-01\n", "not valid YAML: month must be in 1..12"),
        ("schema: 1\n? [a, b]\n: 2\n", "line 2: the name of a field must be text, is a list or a mapping"),
        ("[" * 3000 + "]" * 3000, "is nested too deeply"),
        ("schema: 1\nsamples: " + "9" * 5000, "line 2: a number of 5000 digits"),
        ("schema: 0x" + "f" * 5000, "line 1: a number of 5002 digits"),
        ("schema: 1\n? " + "9" * 5000, "line 2: a number of 5000 digits"),
        ("just words\n", "expected a mapping of fields"),
        ("", "expected a mapping of fields"),
    ],
)
def test_yaml_is_plain_or_refused(copy: Path, text: str, expected: str) -> None:
    canary = copy / "executed"
    (copy / "bundle.yaml").write_text(text.replace("HERE", str(canary)))
    assert expected in refusal(copy)
    assert not canary.exists()


def test_a_manifest_that_is_no_text_is_named(copy: Path) -> None:
    (copy / "bundle.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(copy)


def test_a_pickle_in_the_proof_is_refused(copy: Path) -> None:
    class Hostile:
        def __reduce__(self):
            return Path.touch, (copy / "executed",)

    archive = io.BytesIO()
    arrays = dict(np.load(copy / "proof.npz"))
    arrays["encode.frame"] = np.array([Hostile()], object)
    np.savez(archive, **arrays)
    replace_proof(copy, archive.getvalue())
    assert "encode.frame" in refusal(copy)
    assert not (copy / "executed").exists()


def test_a_pickle_of_the_right_size_is_refused(tiny: Bundle, copy: Path) -> None:
    wanted = tiny.proof()["forecast.labels"].nbytes
    archive = io.BytesIO()
    arrays = dict(np.load(copy / "proof.npz"))
    arrays["forecast.labels"] = np.array(["x" * (wanted - 50)], object)
    np.savez(archive, **arrays)
    replace_proof(copy, archive.getvalue())
    assert "not a readable .npz of plain arrays" in refusal(copy)


def test_a_proof_that_would_unpack_to_more_than_it_should_is_refused(copy: Path) -> None:
    arrays = dict(np.load(copy / "proof.npz"))
    arrays["encode.features"] = np.zeros((1, 4000, 4000), np.float32)
    archive = io.BytesIO()
    np.savez_compressed(archive, **arrays)
    replace_proof(copy, archive.getvalue())
    assert "'encode.features' has 64000128 bytes" in refusal(copy)


def test_an_array_that_claims_to_be_larger_than_any_memory_is_refused(copy: Path) -> None:
    with zipfile.ZipFile(copy / "proof.npz") as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    entry, said = entries["encode.features.npy"], b"(1, 16, 32, 16), }"
    assert said + b" " * 12 in entry
    entries["encode.features.npy"] = entry.replace(said + b" " * 12, said.replace(b"16)", b"16" + b"9" * 12 + b")"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as damaged:
        for name, data in entries.items():
            damaged.writestr(name, data)
    replace_proof(copy, archive.getvalue())
    assert "not a readable .npz of plain arrays" in refusal(copy)


@pytest.mark.parametrize("name", ["encode.features", "stranger"])
def test_a_proof_with_other_arrays_is_refused(copy: Path, name: str) -> None:
    arrays = dict(np.load(copy / "proof.npz"))
    arrays.pop(name, None) is not None or arrays.update({name: np.zeros(3)})
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    replace_proof(copy, archive.getvalue())
    assert f"the array '{name}'" in refusal(copy)


def replace_proof(bundle: Path, data: bytes) -> None:
    (bundle / "proof.npz").write_bytes(data)
    edit_manifest(bundle, lambda m: m["proof"].update(sha256=hashlib.sha256(data).hexdigest()))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_to_the_manifest_gives_a_traceback(tiny: Bundle, data: st.DataObject) -> None:
    text = (tiny.path / "bundle.yaml").read_text()
    at = data.draw(st.integers(0, len(text) - 1))
    inserted = data.draw(st.text(max_size=5))
    skip = data.draw(st.integers(0, 8))
    damaged = text[:at] + inserted + text[at + skip :]
    with contextlib.suppress(BundleError):  # some damage is harmless, the rest is named
        parse_manifest(damaged, "there")


class TestWriter:
    def test_nothing_is_left_of_a_bundle_that_is_wrong(self, tmp_path: Path) -> None:
        manifest = tiny_manifest()
        graphs = {"encode": encode_graph(manifest), "forecast": forecast_graph(manifest)}
        proof = reference_proof(manifest, graphs)
        proof["forecast.labels"] = proof["forecast.labels"][:, :1]
        with pytest.raises(BundleError, match=r"forecast\.labels"):
            write_bundle(tmp_path / "bad", manifest, graphs, proof)
        assert list(tmp_path.iterdir()) == []

    def test_an_existing_bundle_is_kept_unless_replaced(self, tmp_path: Path) -> None:
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
    def test_graphs_that_not_every_engine_can_run_are_refused(self, tmp_path: Path, edit, expected: str) -> None:
        manifest = tiny_manifest()
        graphs = {"encode": encode_graph(manifest), "forecast": forecast_graph(manifest)}
        proof = reference_proof(manifest, graphs)
        edit(graphs["encode"])
        with pytest.raises(BundleError, match=expected):
            write_bundle(tmp_path / "b", manifest, graphs, proof)
        assert list(tmp_path.iterdir()) == []

    def test_weights_are_stored_in_half_only_where_that_loses_nothing(self, tmp_path: Path) -> None:
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


def test_signatures_follow_the_manifest() -> None:
    manifest = tiny_manifest(height=64, width=96, context=2, horizons=5, samples=3)
    encode, forecast = signatures(manifest).values()
    assert str(encode.inputs["frame"]) == "uint8 [1, 64, 96, 3]"
    assert list(forecast.inputs) == ["context_0", "context_1"]
    assert forecast.outputs["features"].shape == (3, 5, 8, 12, 16)
    assert forecast.outputs["labels"].shape == (3, 6, 32, 48)


def test_a_render_graph_takes_one_horizon_and_what_it_was_made_from() -> None:
    manifest = tiny_manifest(height=64, width=96, context=2, samples=3, render=True)
    manifest = dataclasses.replace(manifest, noise=7, features=dataclasses.replace(manifest.features, carried=5))
    signature = render_signature(manifest)
    assert {name: str(tensor) for name, tensor in signature.inputs.items()} == {
        "features": "float32 [1, 8, 12, 16]",
        "frame": "uint8 [1, 64, 96, 3]",
        "horizon": "float32 [1]",
        "noise": "float32 [1, 96]",
        "context_0": "float32 [1, 8, 12, 21]",
        "context_1": "float32 [1, 8, 12, 21]",
    }
    assert {name: str(tensor) for name, tensor in signature.outputs.items()} == {"image": "float32 [1, 64, 96, 3]"}


@pytest.mark.parametrize(
    "shape", [{"samples": 3}, {"context": 1}, {"context": 2}, {"horizons": 6}, {"height": 72, "width": 88}]
)
def test_bundles_of_other_shapes_work_too(tmp_path: Path, shape: dict[str, int]) -> None:
    bundle = make_tiny_bundle(tmp_path / "b", tiny_manifest(**shape))
    engine, _ = open_engine(bundle, "onnxruntime")
    proof = bundle.proof()
    outputs = engine.forecast([proof[f"forecast.context_{i}"] for i in range(bundle.manifest.time.context)])
    np.testing.assert_allclose(outputs.features, proof["forecast.features"], atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["encode.features", "forecast.context_0", "forecast.features"])
def test_references_that_are_not_finite_do_not_switch_the_proof_off(copy: Path, name: str, value: float) -> None:
    arrays = dict(np.load(copy / "proof.npz"))
    arrays[name].reshape(-1)[7] = value
    replace_proof(copy, packed(arrays))
    assert f"'{name}' has NaN or infinity" in refusal(copy)


def test_a_proof_with_a_class_that_the_manifest_does_not_name_is_refused(copy: Path) -> None:
    arrays = dict(np.load(copy / "proof.npz"))
    arrays["forecast.labels"][0, 0, 5, 5] = 99
    replace_proof(copy, packed(arrays))
    assert "'forecast.labels' has the class 99, which the manifest does not name" in refusal(copy)


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    return archive.getvalue()


def test_a_zip_with_doubled_names_is_harmless(copy: Path) -> None:
    data = io.BytesIO((copy / "proof.npz").read_bytes())
    with zipfile.ZipFile(data, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("encode.frame.npy", b"not an array")
    replace_proof(copy, data.getvalue())
    refusal(copy)


def test_manifests_are_values() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_manifest().name = "other"  # type: ignore[misc]
