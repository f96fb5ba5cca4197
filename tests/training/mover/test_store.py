"""Footage on the device: what is drawn of it, and what makes room."""

import numpy as np
import pytest
import torch

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.training.mover.store import Store, joined
from tests.training.mover.worlds import HEIGHT, WIDTH, sideways

SIZE, CPU = (HEIGHT, WIDTH), torch.device("cpu")


def clip(frames: int, value: int) -> np.ndarray:
    pictures = np.full((frames, HEIGHT, WIDTH, 3), value, np.uint8)
    pictures[:, 0, 0, 0] = np.arange(frames)
    return pictures


def test_chunks_are_frames_one_stride_apart() -> None:
    store = Store(60, SIZE, 3, False, CPU)
    store.add_clip(clip(40, 7), None, (3, 4))
    chunk = store.chunks(20, 5, np.random.default_rng(0))
    indices = chunk.pictures[:, :, 0, 0, 0].int()
    assert set(indices.diff(dim=1).unique().tolist()) == {3, 4}
    assert (indices.diff(dim=1).amax(1) == indices.diff(dim=1).amin(1)).all()  # of one stride within a chunk
    assert (chunk.labels == UNLABELLED).all()
    assert not chunk.seen.any()


def test_the_oldest_clips_make_room() -> None:
    store = Store(25, SIZE, 3, False, CPU)
    for value in (1, 2, 3):
        store.add_clip(clip(10, value), None, (1,))
    chunk = store.chunks(50, 5, np.random.default_rng(0))
    assert set(chunk.pictures[:, :, 1, 1, 0].unique().tolist()) == {2, 3}
    assert store.total == 30


def test_short_clips_are_never_drawn() -> None:
    store = Store(40, SIZE, 3, False, CPU)
    store.add_clip(clip(4, 1), None, (1,))
    store.add_clip(clip(9, 2), None, (1,))
    assert (store.chunks(30, 5, np.random.default_rng(0)).pictures[:, :, 1, 1, 0] == 2).all()


def test_exact_drives_bring_their_flow_and_join_other_footage() -> None:
    exact, plain = Store(10, SIZE, 3, True, CPU), Store(10, SIZE, 3, False, CPU)
    exact.add_drive(sideways(7))
    plain.add_clip(clip(7, 1), None, (1,))
    rng = np.random.default_rng(0)
    both = joined([exact.chunks(2, 7, rng), plain.chunks(1, 7, rng)])
    assert both.pictures.shape == (3, 7, HEIGHT, WIDTH, 3)
    assert both.seen[:2, 3:].any()
    assert not both.seen[2].any()
    assert both.flows[:2, 3, 0, 0, 2, 4] == pytest.approx(torch.ones(2))


def test_spread_covers_every_clip() -> None:
    store = Store(40, SIZE, 3, False, CPU)
    store.add_clip(clip(16, 1), None, (1,))
    store.add_clip(clip(16, 2), None, (1,))
    assert [int(chunk.pictures[0, 0, 1, 1, 0]) for chunk in store.spread(7, 9)] == [1, 1, 2, 2]
