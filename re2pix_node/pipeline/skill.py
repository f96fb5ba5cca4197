"""Live skill: compares forecasts and "nothing changes" with the true features. Knows no ROS; times are whole ns."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BETA = 0.1  # where SmoothL1 changes from squared to absolute, as in `re2pix evaluate`
# With fewer moments than this, skill is chance: neighbouring frames are similar, and a few may all be unusual.
FEWEST = 5
# Maximum number of forecasts that wait for their moments: enough for 0.7 s at 45 Hz. A faster camera has some unscored.
MOST_WAITING = 32
# Maximum numbers of a grid that are compared. Of larger grids every n-th row is compared: skill is a ratio and
# neighbouring rows are similar, and the time and memory for a frame stay bounded for any model.
MOST_NUMBERS = 2**19

Grid = NDArray[np.float32]


@dataclass(frozen=True)
class _Seen:
    stamp: int
    features: Grid


@dataclass(frozen=True)
class _Expected:
    """A forecast for one moment, and the features that were seen when it was made."""

    moment: int
    horizon: int  # index of the horizon, from 0
    features: Grid
    then: Grid


class LiveSkill:
    """Keeps forecasts until their moments arrive, and scores them with the frames of those moments.

    The frame nearest to a moment scores it, if it is within `tolerance`, which must be below the shortest horizon: no
    frame is its own future. Arrays are kept, usually without a copy: do not write to them.
    """

    def __init__(self, horizons: int, window: int, tolerance: int) -> None:
        self._windows = [_Window() for _ in range(horizons)]
        self._length = window
        self._tolerance = tolerance
        self._newest: _Seen | None = None
        self._waiting: list[_Expected] = []
        self._error = _Error()

    def forget(self) -> None:
        """Start again, as after a jump in time: earlier measurements say nothing about the present."""
        self._newest = None
        self._waiting.clear()
        self._windows = [_Window() for _ in self._windows]

    def observe(self, stamp: int, features: NDArray[Any]) -> None:
        """Take the features [h, w, C] of a frame, with or without a forecast from it."""
        frame = _Seen(stamp, _compared(features))
        before = self._newest
        if before is not None and stamp == before.stamp:
            return
        if before is not None and (stamp < before.stamp or frame.features.shape != before.features.shape):
            self.forget()
        self._score(frame)
        self._newest = frame
        for window in self._windows:
            window.forget_before(stamp - self._length)

    def predict(
        self, stamp: int, predicted_stamps: Sequence[int], features: NDArray[Any], observed: NDArray[Any]
    ) -> None:
        """Take the forecast [K, h, w, C] for K stamps, from the frame at `stamp` with the features `observed`."""
        if len(self._waiting) > (MOST_WAITING - 1) * len(self._windows):
            return
        then = _compared(observed)
        for k, (moment, expected) in enumerate(zip(predicted_stamps, features, strict=True)):
            self._waiting.append(_Expected(moment, k, _compared(expected), then))

    def values(self) -> list[float]:
        """Skill of each entry of a forecast: 1 - error / error of copying, at least -1. NaN for entry 0, the frame
        itself, and where it is not measured."""
        return [float("nan"), *(window.skill() for window in self._windows)]

    def scored(self) -> list[int]:
        """The number of moments behind the skill of each entry."""
        return [0, *(len(window) for window in self._windows)]

    def _score(self, frame: _Seen) -> None:
        due = [expected for expected in self._waiting if expected.moment <= frame.stamp]
        self._waiting = [expected for expected in self._waiting if expected.moment > frame.stamp]
        for expected in sorted(due, key=lambda expected: expected.moment):
            seen = self._nearest(expected.moment, frame)
            if abs(seen.stamp - expected.moment) <= self._tolerance:
                error = self._error.between(expected.features, seen.features)
                copying = self._error.between(expected.then, seen.features)
                self._windows[expected.horizon].add(expected.moment, error, copying)

    def _nearest(self, moment: int, frame: _Seen) -> _Seen:
        """The first frame at or after a moment, or the one before it if that is nearer."""
        before = self._newest
        return before if before is not None and moment - before.stamp < frame.stamp - moment else frame


class _Window:
    """Errors at the recent moments, oldest first, and their sums.

    They are integers in units of 2^-60. With floats, rounding errors would stay in the sums when old errors are
    subtracted, and a frozen camera would no longer give an error of copying of exactly 0.
    """

    def __init__(self) -> None:
        self._moments: deque[tuple[int, int, int]] = deque()
        self._error = self._copying = 0

    def __len__(self) -> int:
        return len(self._moments)

    def add(self, moment: int, error: float, copying: float) -> None:
        whole = round(error * 2**60), round(copying * 2**60)
        self._moments.append((moment, *whole))
        self._error += whole[0]
        self._copying += whole[1]

    def forget_before(self, moment: int) -> None:
        while self._moments and self._moments[0][0] < moment:
            _, error, copying = self._moments.popleft()
            self._error -= error
            self._copying -= copying

    def skill(self) -> float:
        if len(self) < FEWEST:
            return float("nan")
        if self._copying == 0:  # the picture did not change and copying is perfect: a forecast can only equal it
            return -1.0 if self._error else 0.0
        return max(-1.0, 1 - self._error / self._copying)


class _Error:
    """Mean SmoothL1 in single precision, with its own buffers: it runs two times K times a frame."""

    def __init__(self) -> None:
        self._apart: Grid = np.empty(0, np.float32)
        self._small: Grid = np.empty(0, np.float32)

    def between(self, said: Grid, true: Grid) -> float:
        if self._apart.shape != true.shape:
            self._apart, self._small = np.empty_like(true), np.empty_like(true)
        apart, small = self._apart, self._small
        np.subtract(said, true, out=apart)
        np.abs(apart, out=apart)
        np.minimum(apart, np.float32(BETA), out=small)
        # With s = min(a, BETA), SmoothL1 is s (a - s / 2) / BETA on both sides of BETA: two dot products, no branches.
        return (float(np.vdot(small, apart)) - float(np.vdot(small, small)) / 2) / (BETA * apart.size)


def _compared(features: NDArray[Any]) -> Grid:
    """The compared part of a grid, in single precision and contiguous; not copied if it already is."""
    every = -(-features.size // MOST_NUMBERS)
    return np.ascontiguousarray(features[::every], np.float32)
