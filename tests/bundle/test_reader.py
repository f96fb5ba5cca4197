"""The files of a bundle: a whole bundle is read, and a missing or changed file is refused by its name."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import BundleError
from tests.support.damaged_bundle import refusal
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest


def test_what_was_written_reads_back(tiny: Bundle) -> None:
    bundle = read_bundle(tiny.path)
    assert bundle.manifest == tiny.manifest
    assert bundle.basis == hashlib.sha256((tiny.path / "encode.onnx").read_bytes()).hexdigest()
    assert bundle.graph("forecast") == (tiny.path / "forecast.onnx").read_bytes()
    assert bundle.proof()["encode.frame"].shape == (1, 128, 256, 3)


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


def test_a_render_graph_is_part_of_a_bundle(drawing: Bundle) -> None:
    bundle = read_bundle(drawing.path)
    assert bundle.manifest == drawing.manifest
    assert bundle.graph("render") == (drawing.path / "render.onnx").read_bytes()
    proof = bundle.proof()
    assert (proof["render.image"].dtype, proof["render.image"].shape) == (np.uint8, (1, 128, 256, 3))
    assert proof["render.noise"].shape == (1, 256)


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"other")])
def test_a_damaged_render_graph_is_named(drawing: Bundle, tmp_path: Path, damage) -> None:
    path = Path(shutil.copytree(drawing.path, tmp_path / "copy"))
    damage(path / "render.onnx")
    assert "render.onnx" in refusal(path)


@pytest.mark.parametrize(
    "shape", [{"samples": 3}, {"context": 1}, {"context": 2}, {"horizons": 6}, {"height": 72, "width": 88}]
)
def test_bundles_of_other_shapes_work_too(tmp_path: Path, shape: dict[str, int]) -> None:
    bundle = make_tiny_bundle(tmp_path / "b", tiny_manifest(**shape))
    engine, _ = open_engine(bundle, "onnxruntime")
    proof = bundle.proof()
    outputs = engine.forecast([proof[f"forecast.context_{i}"] for i in range(bundle.manifest.time.context)])
    np.testing.assert_allclose(outputs.features, proof["forecast.features"], atol=1e-4)
