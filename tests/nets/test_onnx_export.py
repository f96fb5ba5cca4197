from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from re2pix_node.bundle.writer import OPSET_MAX, WEIGHTS_MIN
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import BundleError
from re2pix_node.nets.onnx_export import export_bundle, exported
from re2pix_node.nets.proof_frames import proof_frames
from tests.nets.test_torch_export import CHANNELS, HEIGHT, WIDTH, Encoder, Forecaster, from_torch_manifest
from tests.support.tiny_bundle import tiny_manifest


class Steps(nn.Module):
    """Uses its weights several times, as a rollout does."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(64, 64)
        self.unused = nn.Linear(512, 512)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.step(x)
        return y, self.step(self.step(y))


def test_a_graph_has_each_weight_once_and_no_more(capfd: pytest.CaptureFixture[str]) -> None:
    model = exported(Steps(), {"x": torch.randn(1, 64)}, ["near", "far"])
    onnx.checker.check_model(model, full_check=True)
    assert [v.name for v in model.graph.input] == ["x"]
    assert [v.name for v in model.graph.output] == ["near", "far"]
    assert all(o.domain == "" and o.version <= OPSET_MAX for o in model.opset_import)
    assert model.ByteSize() < 1.5 * 4 * 64 * 65
    assert str(Path(__file__).parent).encode() not in model.SerializeToString()  # of whoever exported it
    assert capfd.readouterr() == ("", "")


def test_a_model_that_no_onnx_file_holds_is_refused_before_any_work(tmp_path: Path) -> None:
    giant = nn.Linear(25_000, 25_000, device="meta")
    with pytest.raises(BundleError, match=r"Linear has 2\.33 GiB of weights.*less than 2 GiB"):
        export_bundle(tmp_path / "b", tiny_manifest(), nn.Identity(), giant, proof_frames(4, 128, 256))
    assert not list(tmp_path.iterdir())


def test_weights_are_stored_in_half_and_the_proof_is_theirs(tmp_path: Path) -> None:
    torch.manual_seed(3)
    encoder, forecaster = Encoder(), Forecaster()
    with torch.no_grad():
        forecaster.step[2].weight[0, 0] = 1e6  # out of float16's range: this tensor stays as it is
    manifest = from_torch_manifest()
    bundle = export_bundle(tmp_path / "b", manifest, encoder, forecaster, proof_frames(4, HEIGHT, WIDTH))
    assert forecaster.step[2].weight[0, 0].item() == 1e6
    for name, whole in (("encode", set()), ("forecast", {forecaster.step[2].weight.numel()})):
        tensors = [numpy_helper.to_array(t) for t in onnx.load_from_string(bundle.graph(name)).graph.initializer]
        assert {t.size for t in tensors if t.dtype == np.float32 and t.size >= WEIGHTS_MIN} == whole
        assert any(t.dtype == np.float16 for t in tensors)
    for engine in ("onnxruntime", "openvino"):
        proof = open_engine(bundle, engine, "fp32")[1][-1].proof
        assert proof is not None
        assert proof.relative_l2 < 1e-5
        assert proof.agreement > 0.999
    held = bundle.proof()
    assert len(held["forecast.features"]) < forecaster(*torch.zeros(4, 1, 8, 16, CHANNELS))[0].numel() / 50
    assert len(np.unique(held["forecast.context_0"])) < 20


def test_proof_frames_move_and_are_always_the_same() -> None:
    frames = proof_frames(4, 56, 84)
    assert (frames.dtype, frames.shape) == ("uint8", (4, 56, 84, 3))
    assert (frames == proof_frames(4, 56, 84)).all()
    assert all((a != b).mean() > 0.3 for a, b in pairwise(frames))
