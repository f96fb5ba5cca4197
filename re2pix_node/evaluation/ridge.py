"""The simplest learnt forecaster: one small linear regression for each channel, the same in every cell.

The regression predicts a channel's change from now. Its inputs are the channel in each context frame, its 3x3 blur and
its flow-warped value now, and a bias: 7 numbers for a context of 4. With zero weights it copies the last frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
PENALTY = 1e-5  # relative to the mean square of the regressors; a larger one would suppress motion, which is small


@dataclass
class RidgeSums:
    """The normal equations of one horizon. They add up over samples and clips."""

    gram: Array  # [C, D, D]
    moment: Array  # [C, D]

    def __add__(self, other: "RidgeSums") -> "RidgeSums":
        return RidgeSums(self.gram + other.gram, self.moment + other.moment)


def regressors(context: Sequence[Array], warped: Array) -> Array:
    """[C, D, cells], from frames of [h, w, C], oldest first."""
    newest = context[-1]
    columns = [*context, _blurred(newest), warped, np.ones_like(newest)]
    return np.stack([c.reshape(-1, newest.shape[-1]).T for c in columns], axis=1).astype(np.float64)


def sums_of(given: Array, now: Array, future: Array) -> RidgeSums:
    """The sums of one sample; `given` comes from `regressors`, `now` and `future` are [h, w, C]."""
    change = (future.astype(np.float64) - now).reshape(-1, now.shape[-1]).T
    return RidgeSums(given @ given.transpose(0, 2, 1), (given @ change[..., None])[..., 0])


def solve(sums: RidgeSums) -> Array:
    """[C, D]: the weights; the bias is not shrunk."""
    size = sums.gram.shape[-1]
    mean_square = np.trace(sums.gram[:, :-1, :-1], axis1=1, axis2=2) / (size - 1)
    free_bias = np.diag([1.0] * (size - 1) + [0.0])
    # For a channel that is always zero the tiny term keeps the equations solvable.
    penalty = PENALTY * mean_square[:, None, None] * free_bias + 1e-9 * np.eye(size)
    weights: Array = np.linalg.solve(sums.gram + penalty, sums.moment[..., None])[..., 0]
    return weights


def predict(weights: Array, given: Array, now: Array) -> Array:
    """[h, w, C]"""
    change = (weights[:, None] @ given)[:, 0]
    moved: Array = (now + change.T.reshape(now.shape)).astype(np.float32)
    return moved


def _blurred(grid: Array) -> Array:
    height, width = grid.shape[:2]
    padded = np.pad(grid.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    total: Array = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))  # type: ignore[assignment]
    return total / 9
