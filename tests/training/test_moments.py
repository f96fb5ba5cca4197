"""Every spacing that footage offers is learnt from, and what counts as even is what the run time's buffer says."""

from dataclasses import replace

import numpy as np
import pytest

from re2pix_node.footage.clips import _moments
from re2pix_node.training.moments import moments
from tests.support.made_footage import SPEC, stamps_at


def spacings(found: np.ndarray, stamps: np.ndarray) -> set[float]:
    return {round(float(gap), 3) for gap in (stamps[found[:, 3]] - stamps[found[:, 0]]) / 3e9}


@pytest.mark.parametrize(
    ("rate", "expected"), [(30, {0.133, 0.167, 0.2, 0.233}), (10, {0.2}), (3, set()), (17, {0.118, 0.176, 0.235})]
)
def test_all_spacings_in_range_are_there(rate: float, expected: set[float]) -> None:
    stamps = np.array(stamps_at(rate, 120))
    spec = replace(SPEC, stride_min=0.115)
    assert spacings(moments(stamps, spec), stamps) == expected


def test_future_frames_are_multiples_of_the_spacing() -> None:
    stamps = np.array(stamps_at(30, 100))
    found = moments(stamps, SPEC)
    gaps = (stamps[found[:, 3]] - stamps[found[:, 0]]) / 3
    for horizon, column in zip(SPEC.horizons, found.T[4:], strict=True):
        ahead = stamps[column] - stamps[found[:, 3]]
        assert np.abs(ahead - horizon * gaps).max() <= SPEC.jitter * 1e9
    assert len(np.unique(found, axis=0)) == len(found)


@pytest.mark.parametrize("seed", range(4))
def test_what_the_run_time_would_use_is_among_them(seed: int) -> None:
    """Stamps that shake, repeatedly slow down, and leave gaps."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([0.033, 0.04, 0.066, 0.7], 300, p=[0.6, 0.3, 0.09, 0.01]) + rng.normal(0, 0.002, 300)
    stamps = np.cumsum((steps * 1e9).astype(np.int64))
    known = {tuple(row) for row in moments(stamps, SPEC).tolist()}
    at_run_time = [(*moment.context, *moment.future) for moment in _moments(stamps.tolist(), SPEC)]
    assert len(at_run_time) > 30
    assert set(at_run_time) <= known
    assert len(known) > len(at_run_time)


def test_a_context_of_one_frame_has_the_nominal_spacing() -> None:
    stamps = np.array(stamps_at(50, 60))
    found = moments(stamps, replace(SPEC, context=1))
    assert len(found) == 60 - 27 + 1  # the last one is one jitter early for its furthest frame
    assert set((found[:, 1] - found[:, 0]).tolist()) == {9}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_short_footage_has_none(count: int) -> None:
    assert moments(np.array(stamps_at(10, count), np.int64), SPEC).shape == (0, 7)
