"""The proof of a bundle: plain arrays as the manifest says, and no more of them than it says."""

import dataclasses
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from re2pix_node.bundle.reader import Bundle
from re2pix_node.bundle.writer import write_bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import EngineError
from re2pix_node.render import renderer
from tests.support.damaged_bundle import refusal, replace_proof
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest


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
