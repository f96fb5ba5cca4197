"""Live skill: forecasts against what was then seen, beside "nothing changes". No ROS in it; all times are whole ns."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BETA = 0.1  # where SmoothL1 turns from squared to absolute, as `re2pix evaluate` has it
# Skill of fewer moments than this is chance: neighbouring frames resemble one another, and a few may all be odd ones.
FEWEST = 5
# Forecasts waiting for their moments. Enough for 0.7 s at 45 Hz; a faster camera has some of its forecasts unscored.
MOST_WAITING = 32
# Numbers of a grid that are compared. Larger grids are compared in every n-th row: skill is a ratio, neighbouring rows
# resemble one another, and a frame's share of time and memory stays bounded whatever the model.
MOST_NUMBERS = 2**19

Grid = NDArray[np.float32]


@dataclass(frozen=True)
class _Seen:
    stamp: int
    features: Grid


@dataclass(frozen=True)
class _Expected:
    """What a forecast says of one moment, and what was seen when it was made."""

    moment: int
    horizon: int  # index of it, from 0
    features: Grid
    then: Grid


class LiveSkill:
    """Remembers forecasts until their moments come, and scores them by the frames seen then.

    A moment is scored by the frame nearest to it, if that is within `tolerance`, which must be below the shortest
    horizon: no frame is its own future. Arrays are kept, and not copied where that will do: do not write to them.
    """

    def __init__(self, horizons: int, window: int, tolerance: int) -> None:
        self._windows = [_Window() for _ in range(horizons)]
        self._length = window
        self._tolerance = tolerance
        self._newest: _Seen | None = None
        self._waiting: list[_Expected] = []
        self._error = _Error()

    def forget(self) -> None:
        """Starts anew, as after a jump in time: what was measured there says nothing of here."""
        self._newest = None
        self._waiting.clear()
        self._windows = [_Window() for _ in self._windows]

    def observe(self, stamp: int, features: NDArray[Any]) -> None:
        """Takes the features [h, w, C] of a frame, whether a forecast comes of it or not."""
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
        """Takes what the frame seen at `stamp`, itself `observed`, lets expect: [K, h, w, C] for the K stamps."""
        if len(self._waiting) > (MOST_WAITING - 1) * len(self._windows):
            return
        then = _compared(observed)
        for k, (moment, expected) in enumerate(zip(predicted_stamps, features, strict=True)):
            self._waiting.append(_Expected(moment, k, _compared(expected), then))

    def values(self) -> list[float]:
        """Skill of each entry of a forecast: 1 - error / error of copying, -1 at the least. Entry 0, the frame itself,
        and what is not measured is NaN."""
        return [float("nan"), *(window.skill() for window in self._windows)]

    def scored(self) -> list[int]:
        """How many moments the skill of each entry rests on."""
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
    """Errors at the moments just past, oldest first, and their sums.

    They are kept as whole numbers of 2^-60: of floats, rubbish would stay in the sums when old errors are taken off,
    and a camera that froze would no longer be told by an error of copying of exactly 0.
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
        if self._copying == 0:  # the picture stood still, and copying is perfect: a forecast can only equal it
            return -1.0 if self._error else 0.0
        return max(-1.0, 1 - self._error / self._copying)


class _Error:
    """Mean SmoothL1 in single precision, in buffers of its own: it runs two times K times a frame."""

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
    """The part of a grid that is compared, in single precision and in one piece; no copy where it is that already."""
    every = -(-features.size // MOST_NUMBERS)
    return np.ascontiguousarray(features[::every], np.float32)
