"""The forecaster on a small grid: what it gives, where it begins, and that engines compute the same."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from re2pix_node.nets.mover.forecaster import MoverForecast, MoverForecaster, MoverOptions
from re2pix_node.nets.onnx_export import exported

OPTIONS = MoverOptions(
    channels=6, carried=16, height=8, width=16, context=4, horizons=(1, 2, 3), classes=5, flow_width=16, flow_depth=1,
    motion_width=16, motion_depth=1, hidden=16, depth=1, heads=2, head_width=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def net() -> MoverForecaster:
    torch.manual_seed(0)
    return MoverForecaster(OPTIONS).eval()


def context(samples: int = 2) -> Tensor:
    return torch.randn(samples, 4, 8, 16, 22, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def said_by(net: MoverForecaster, frames: Tensor) -> MoverForecast:
    said: MoverForecast = net(frames)
    return said


def test_shapes(net: MoverForecaster) -> None:
    said = said_by(net, context())
    assert said.features.shape == said.moved.shape == (2, 3, 6, 8, 16)
    assert said.displacements.shape == (2, 3, 2, 8, 16)
    assert said.shift.shape == (2, 3, 2, 16, 32)
    assert [flow.shape for flow in said.flows] == [(2, 2, 2, 8, 16)] * 2
    assert said.now.shape == (2, 5, 16, 32)
    assert said.opinions.shape == said.labels.shape == (2, 3, 5, 16, 32)


def test_labels_are_probabilities(net: MoverForecaster) -> None:
    assert torch.allclose(said_by(net, context()).labels.exp().sum(2), torch.ones(2, 3, 16, 32), atol=1e-3)


def test_training_begins_at_nothing_moves(net: MoverForecaster) -> None:
    frames = context()
    said = said_by(net, frames)
    newest = frames[:, -1, ..., :6].permute(0, 3, 1, 2)
    assert not said.displacements.any()
    assert torch.allclose(said.features, newest[:, None].expand(-1, 3, -1, -1, -1), atol=1e-5)


def test_only_the_newest_frames_count(net: MoverForecaster) -> None:
    frames = context()
    other = frames.clone()
    other[:, 0] = 0
    assert torch.equal(said_by(net, frames).labels, said_by(net, other).labels)


def test_reading_a_frame_is_the_labels_of_now(net: MoverForecaster) -> None:
    frames = context()
    with torch.no_grad():
        assert torch.allclose(net.read(frames[:, -1]), said_by(net, frames).now, atol=1e-5)


def test_too_short_a_context_is_refused() -> None:
    with pytest.raises(ValueError, match="3 frames on, the context is 2"):
        MoverOptions(channels=6, carried=16, height=8, width=16, context=2, horizons=(1,), classes=5)


class Graph(nn.Module):
    def __init__(self, net: MoverForecaster) -> None:
        super().__init__()
        self.net = net

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        said = self.net(frames)
        return said.features, said.displacements, said.labels.exp()


@pytest.mark.long  # an export
def test_the_graph_computes_the_same(net: MoverForecaster) -> None:
    torch.manual_seed(2)
    moving = MoverForecaster(OPTIONS).eval()
    for parameter in moving.parameters():  # nothing at zero, so that everything has a say
        nn.init.normal_(parameter, std=0.1)
    frames = context(1)
    names = ["features", "displacements", "labels"]
    model = exported(Graph(moving), {"frames": frames}, names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = Graph(moving)(frames)
    for found, tensor in zip(session.run(names, {"frames": frames.numpy()}), wanted, strict=True):
        assert np.linalg.norm(found - tensor.numpy()) < 1e-3 * np.linalg.norm(tensor.numpy())
