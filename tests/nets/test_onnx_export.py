from itertools import pairwise
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from re2pix_node.bundle.writer import OPSET_MAX
from re2pix_node.errors import BundleError
from re2pix_node.nets.onnx_export import export_bundle, exported
from re2pix_node.nets.proof_frames import proof_frames
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


def test_proof_frames_move_and_are_always_the_same() -> None:
    frames = proof_frames(4, 56, 84)
    assert (frames.dtype, frames.shape) == ("uint8", (4, 56, 84, 3))
    assert (frames == proof_frames(4, 56, 84)).all()
    assert all((a != b).mean() > 0.3 for a, b in pairwise(frames))
