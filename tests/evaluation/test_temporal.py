import numpy as np
import pytest

from re2pix_node.evaluation.temporal import Flicker, Revisions

A, B = np.zeros((2, 4)), np.zeros((2, 4))
B[0] = 1  # half of its pixels differ from A


def test_a_forecast_is_held_against_the_next_one_of_the_same_moment() -> None:
    revisions = Revisions(tolerance=5)
    # At 0: of 100 A, of 200 A. At 100: B is seen, and now of 200 B.
    assert list(revisions.next("forecast", [(0, A), (100, A), (200, A)])) == []
    found = {k: share[0] / share[1] for k, share in revisions.next("forecast", [(100, B), (200, B), (300, B)])}
    assert found == {0: pytest.approx(0.5), 1: pytest.approx(0.5)}
    # Other rows are other speakers, and moments 6 apart are not the same.
    assert list(revisions.next("copy", [(200, B), (300, B), (400, B)])) == []
    assert [k for k, _ in revisions.next("forecast", [(206, B), (306, B), (406, B)])] == []
    revisions.forget(before=250)
    assert [k for k, _ in revisions.next("forecast", [(200, B), (300, B), (400, B)])] == [1]


def test_flicker_counts_only_where_the_truth_stood_still() -> None:
    true = np.zeros((2, 4), int)
    moved = true.copy()
    moved[0, :2] = 3
    flicker = Flicker()
    assert flicker.next(A, true, classes=5).tolist() == [0, 0]
    assert flicker.next(B, moved, classes=5).tolist() == [2, 6]
    blind = Flicker()
    blind.next(A, None, classes=5)
    assert blind.next(B, None, classes=5).tolist() == [4, 8]


def test_flicker_leaves_out_unlabelled_pixels() -> None:
    true = np.full((2, 4), 5)
    flicker = Flicker()
    flicker.next(A, true, classes=5)
    assert flicker.next(B, true, classes=5).tolist() == [0, 0]
