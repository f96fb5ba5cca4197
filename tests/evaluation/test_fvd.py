"""Fréchet distance against closed forms, and how the videos of rows are counted."""

import numpy as np
import pytest

from re2pix_node.evaluation.fvd import FvdTally, frechet_distance
from tests.support import drive

RNG = np.random.default_rng(0)
PICTURES = [drive.frame(0.2 * i, 32, 16) for i in range(3)]


def exactly(mean: np.ndarray, covariance: np.ndarray, count: int = 200) -> np.ndarray:
    """Features that have just this mean and covariance."""
    white = RNG.normal(size=(count, len(mean)))
    white -= white.mean(0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(white.T)), white.T).T
    return mean + white @ np.linalg.cholesky(covariance).T


def some_covariance(size: int) -> np.ndarray:
    a = RNG.normal(size=(size, size))
    return a @ a.T + 0.1 * np.eye(size)


def root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values) @ vectors.T


def test_the_distance_is_that_of_gaussians() -> None:
    one, other = np.array([0.0, 1, 2]), np.array([1.0, 1, 4])
    wide, narrow = np.diag([4.0, 9, 1]), np.diag([1.0, 1, 25])
    # Where the axes agree: by axis the difference of the means and of the deviations, squared.
    assert frechet_distance(exactly(one, wide), exactly(other, narrow)) == pytest.approx(5 + 1 + 4 + 16)
    a, b = some_covariance(3), some_covariance(3)
    expected = np.trace(a + b - 2 * root(root(a) @ b @ root(a))) + 5
    assert frechet_distance(exactly(one, a), exactly(other, b)) == pytest.approx(expected)


def test_a_set_is_no_distance_from_itself_and_the_farther_the_noisier() -> None:
    features = RNG.normal(size=(300, 40)) @ RNG.normal(size=(40, 40))
    noise = RNG.normal(size=features.shape)
    scale = float(np.square(features).sum())
    assert frechet_distance(features, features) <= 1e-12 * scale
    assert frechet_distance(features, features[::-1] @ np.eye(40)) <= 1e-12 * scale
    distances = [frechet_distance(features + amount * noise, features) for amount in (0.5, 1, 2, 4)]
    assert distances == sorted(distances)
    assert distances[0] > 1e-3


def test_few_videos_of_many_features_are_measured_as_far_as_they_go() -> None:
    """The covariance has no full rank: the distance is that within the span of the features, turned anyhow."""
    few = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4)) + 1
    a, b = (np.cov(features.T) for features in few)
    apart = few[0].mean(0) - few[1].mean(0)
    expected = apart @ apart + np.trace(a + b - 2 * root(root(a) @ b @ root(a)))
    turn = np.linalg.qr(RNG.normal(size=(400, 400)))[0][:4]
    assert frechet_distance(few[0] @ turn, few[1] @ turn) == pytest.approx(expected)


def brightness(videos: list) -> np.ndarray:
    """[videos, 2]: of the first picture and of all, instead of a network's features."""
    return np.array([[np.mean(video[0]), np.mean(video)] for video in videos])


def test_rows_are_held_against_the_true_videos_and_follow_the_same_context() -> None:
    tally = FvdTally(brightness)
    for level in (10, 60, 20, 130):
        context = [PICTURES[0] // 2, PICTURES[1]]
        true = [picture // 2 + level for picture in PICTURES]
        tally.add(context, true, {"right": true, "dark": [picture // 2 for picture in PICTURES]})
    found = tally.figures()
    assert (found["videos"], found["pictures"], found["note"]) == (4, 5, "")
    assert found["rows"]["right"] == pytest.approx(0, abs=1e-9)
    # The context does not differ; of 5 pictures 3 are darker, by 55 in the mean, and do not vary.
    levels = np.array([10, 60, 20, 130]) * 3 / 5
    assert found["rows"]["dark"] == pytest.approx(levels.mean() ** 2 + levels.var(ddof=1))


def test_too_few_videos_are_told() -> None:
    tally = FvdTally(brightness)
    tally.add(PICTURES, PICTURES, {"copy": PICTURES})
    assert tally.figures()["rows"] == {"copy": None}
    tally.add(PICTURES, PICTURES, {"copy": PICTURES})
    found = tally.figures()
    assert found["rows"] == {"copy": 0}
    assert found["note"].startswith("2 videos are too few for the covariance of 2 features, which needs at least 3")
