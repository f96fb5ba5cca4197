"""The loss: finite without labels or flow, zero gradients nowhere, and it can be learnt from."""

import numpy as np
import torch

from re2pix_node.nets.mover.forecaster import MoverForecaster
from re2pix_node.training.mover.augment import Chunk
from re2pix_node.training.mover.judge import ROWS, add, empty_sums, figures
from re2pix_node.training.mover.loss import LossShares, MoverLoss, windows
from re2pix_node.training.mover.store import Store, joined
from tests.nets.mover.test_forecaster import OPTIONS
from tests.training.mover.worlds import sideways

SIZE, CPU = (64, 128), torch.device("cpu")


def small() -> tuple[torch.Tensor, Chunk]:
    """Random features of a chunk of nine frames, one of whose two clips knows nothing."""
    g = torch.Generator().manual_seed(0)
    features = torch.randn(2, 9, 8, 16, 22, generator=g)
    labels = torch.randint(5, (2, 9, 32, 64), generator=g).byte()
    labels[1] = 255
    flows, seen = torch.ones(2, 9, 3, 2, 32, 64), torch.ones(2, 9, 3, 32, 64, dtype=torch.bool)
    seen[1] = False
    return features, Chunk(
        torch.zeros(2, 9, 64, 128, 3, dtype=torch.uint8), labels, flows, seen, torch.tensor([True, False])
    )


def test_windows_are_all_samples_of_a_chunk() -> None:
    found = windows(torch.arange(18).view(2, 9), 7)
    assert found.tolist() == [[s + i for i in range(7)] for start in range(3) for s in (start, 9 + start)]


def test_every_part_is_finite_and_reaches_the_network() -> None:
    torch.manual_seed(0)
    net = MoverForecaster(OPTIONS)
    features, chunk = small()
    loss, parts = MoverLoss(net, torch.ones(5), LossShares())(features, chunk)
    loss.backward()
    assert {"features", "moved", "flow", "motion", "now", "opinion", "labels", "agreement", "past", "steady"} == set(
        parts
    )
    assert all(bool(torch.isfinite(part)) for part in parts.values())
    assert parts["agreement"] > 0
    assert parts["flow"] > 0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


def test_footage_that_knows_nothing_has_no_say_in_flow_or_labels() -> None:
    torch.manual_seed(0)
    task = MoverLoss(MoverForecaster(OPTIONS), torch.ones(5), LossShares())
    features, chunk = small()
    bare = Chunk(*(getattr(chunk, name)[1:] for name in Chunk.__dataclass_fields__))
    _, parts = task(features[1:], bare)
    assert [float(parts[name]) for name in ("flow", "motion", "now", "opinion", "labels")] == [0] * 5


def test_flow_is_learnt_from_frames_alone() -> None:
    """Nothing is known, but each frame is the one before, moved by a cell: `past` falls as the flow finds it."""
    torch.manual_seed(0)
    net = MoverForecaster(OPTIONS)
    task = MoverLoss(net, torch.ones(5), LossShares())
    _, chunk = small()
    bare = Chunk(*(getattr(chunk, name)[1:] for name in Chunk.__dataclass_fields__))
    wide = torch.randn(1, 8, 16 + 9, 22, generator=torch.Generator().manual_seed(0))
    frames = torch.stack([wide[:, :, start : start + 16] for start in range(9)], 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    pasts = []
    for _ in range(30):
        _, parts = task(frames, bare)
        optimizer.zero_grad()
        past = task._past(net(frames[:, :4]), frames[:, :7], torch.tensor([True]))
        past.backward()
        optimizer.step()
        pasts.append(float(parts["past"]))
    assert pasts[-1] < 0.7 * pasts[0]


def test_labels_that_move_with_the_picture_are_steady() -> None:
    torch.manual_seed(0)
    net = MoverForecaster(OPTIONS)
    still = torch.randn(2, 1, 8, 16, 22, generator=torch.Generator().manual_seed(0)).expand(-1, 9, -1, -1, -1)
    _, chunk = small()
    flickers = small()[0]
    task = MoverLoss(net, torch.ones(5), LossShares())
    assert float(task(still, chunk)[1]["steady"]) < 1e-6 < float(task(flickers, chunk)[1]["steady"])


def test_it_is_learnt() -> None:
    torch.manual_seed(0)
    net = MoverForecaster(OPTIONS)
    task = MoverLoss(net, torch.ones(5), LossShares())
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    features, chunk = small()
    losses = []
    for _ in range(25):
        loss, parts = task(features, chunk)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((float(loss.detach()), float(parts["flow"])))
    assert losses[-1][0] < 0.9 * losses[0][0]
    assert losses[-1][1] < 0.5 * losses[0][1]  # all moves by one pixel: that is easily found


def test_figures_of_a_network_that_has_learnt_nothing() -> None:
    torch.manual_seed(0)
    net = MoverForecaster(OPTIONS).eval()
    store = Store(7, (32, 64), 3, True, CPU)
    store.add_drive(sideways(7))
    (chunk,) = store.spread(7, 7)
    sums = empty_sums(5, 3, CPU)
    with torch.no_grad():
        add(sums, net, torch.from_numpy(np.random.default_rng(0).normal(size=(1, 7, 8, 16, 22))).float(), chunk)
    found = figures(sums)
    assert found["of copying"] == found["moved"] == [1, 1, 1]  # it says that nothing moves
    assert found["flow, pixels"][0] > 1
    assert set(ROWS) < set(found)


def test_footage_of_all_kinds_joins() -> None:
    _, chunk = small()
    assert joined([chunk, chunk]).labels.shape == (4, 9, 32, 64)
