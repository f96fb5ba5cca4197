"""re2pix check, of a bundle that draws pictures; of others see test_cli.py."""

from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.bundle.writer import write_bundle
from re2pix_node.cli import main
from tests.support.tiny_bundle import (
    encode_graph,
    forecast_graph,
    reference_proof,
    render_graph,
    tiny_manifest,
)


def test_every_runtime_draws_the_picture_of_the_proof(drawing: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(drawing.path)]) == 0
    said = capsys.readouterr().out
    assert "  render    image float32 [1, 128, 256, 3]" in said
    assert "  pictures by openvino fp32: proved (PSNR " in said
    assert "  pictures by onnxruntime fp32: proved (PSNR " in said


def test_pictures_that_nothing_reproduces_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tiny_manifest(render=True)
    graphs = {
        "encode": encode_graph(manifest),
        "forecast": forecast_graph(manifest),
        "render": render_graph(manifest),
    }
    proof = reference_proof(manifest, graphs)
    proof["render.image"] = 255 - proof["render.image"]
    write_bundle(tmp_path / "b", manifest, graphs, proof)
    assert main(["check", str(tmp_path / "b")]) == 2
    said = capsys.readouterr()
    assert "onnxruntime fp32: its picture is not that of the proof, 40 dB are needed (PSNR " in said.out
    (line,) = said.err.splitlines()
    assert line.startswith(f"re2pix check: no engine of this machine draws the pictures of {tmp_path / 'b'}")
