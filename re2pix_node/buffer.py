"""Encoded frames of the recent past, sampled by their stamps."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")

# Enough for a camera at 300 Hz and a context of 0.8 s. Faster than that nothing is sampled better, only kept longer.
FRAMES_MAX = 256


@dataclass(frozen=True)
class Timing:
    """How a context is spaced. Times are nanoseconds."""

    context: int  # frames
    stride: int  # the spacing wished for
    stride_min: int
    stride_max: int
    jitter: int  # how far a frame may lie from the even grid

    def __post_init__(self) -> None:
        if self.context < 1:
            raise ValueError(f"context must be at least 1, is {self.context}")
        if not 0 < self.stride_min <= self.stride <= self.stride_max:
            raise ValueError("0 < stride_min <= stride <= stride_max does not hold")
        if not 0 <= self.jitter < self.stride_min / 4:
            raise ValueError(f"jitter must lie from 0 to below stride_min / 4, is {self.jitter}")


class Arrival(Enum):
    """How a frame's stamp follows on the one before."""

    IN_ORDER = "follows in order"
    REPEATED = "repeats the stamp before it and is ignored"
    JUMPED_BACK = "jumps back in time: earlier frames are forgotten"
    AFTER_GAP = "comes after a gap: earlier frames are forgotten"


@dataclass(frozen=True)
class Context(Generic[T]):
    """Evenly spaced frames, oldest first."""

    frames: tuple[T, ...]
    stamps: tuple[int, ...]
    spacing: int  # mean time between them, ns


class FrameBuffer(Generic[T]):
    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._stamps: list[int] = []  # rising
        self._frames: list[T] = []
        # Two neighbours in a context are at most one spacing and both their deviations apart.
        self._gap = timing.stride_max + 2 * timing.jitter
        self._span = (timing.context - 1) * timing.stride_max

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def newest(self) -> int | None:
        return self._stamps[-1] if self._stamps else None

    def clear(self) -> None:
        self._stamps.clear()
        self._frames.clear()

    def push(self, stamp: int, frame: T) -> Arrival:
        """Takes a frame, and forgets those that no later context can use."""
        if stamp < 0:
            raise ValueError(f"a stamp cannot be negative, is {stamp} ns")
        arrival = self._arrival(stamp)
        if arrival is Arrival.REPEATED:
            return arrival
        if arrival is not Arrival.IN_ORDER:
            self.clear()
        self._stamps.append(stamp)
        self._frames.append(frame)
        useless = max(bisect.bisect_left(self._stamps, stamp - self._span), len(self) - FRAMES_MAX)
        del self._stamps[:useless], self._frames[:useless]
        return arrival

    def _arrival(self, stamp: int) -> Arrival:
        newest = self.newest
        if newest is None or newest < stamp <= newest + self._gap:
            return Arrival.IN_ORDER
        if stamp == newest:
            return Arrival.REPEATED
        return Arrival.JUMPED_BACK if stamp < newest else Arrival.AFTER_GAP

    def context(self) -> Context[T] | None:
        """The context headed by the newest frame, with the spacing nearest to the stride that these frames offer."""
        if len(self) < self._timing.context:
            return None
        if self._timing.context == 1:
            return Context((self._frames[-1],), (self._stamps[-1],), self._timing.stride)
        candidates = (picked for first in self._first_steps() if (picked := self._pick(first)) is not None)
        best = min(candidates, key=self._off_stride, default=None)
        if best is None:
            return None
        stamps = tuple(self._stamps[i] for i in best)
        return Context(tuple(self._frames[i] for i in best), stamps, self._spacing(best))

    def _first_steps(self) -> Iterator[int]:
        """Frames that can stand directly before the newest: each offers a spacing."""
        timing, newest = self._timing, self._stamps[-1]
        start = bisect.bisect_left(self._stamps, newest - timing.stride_max - timing.jitter)
        stop = bisect.bisect_right(self._stamps, newest - timing.stride_min + timing.jitter)
        return iter(range(start, min(stop, len(self) - 1)))

    def _pick(self, first: int) -> list[int] | None:
        """Indices of an even context, oldest first, that begins with the step from the newest frame to `first`."""
        newest = len(self) - 1
        picked = [newest, first]
        while len(picked) < self._timing.context:
            # Each frame is looked for where the mean of the steps so far puts it, so that errors do not add up.
            steps = len(picked) - 1
            so_far = self._stamps[newest] - self._stamps[picked[-1]]
            index = self._nearest(self._stamps[newest] - so_far * (steps + 1) // steps)
            if index >= picked[-1]:
                return None
            picked.append(index)
        picked.reverse()
        return picked if self._is_even(picked) else None

    def _nearest(self, stamp: int) -> int:
        after = bisect.bisect_left(self._stamps, stamp)
        around = [i for i in (after - 1, after) if 0 <= i < len(self)]
        return min(around, key=lambda i: abs(self._stamps[i] - stamp))

    def _is_even(self, picked: list[int]) -> bool:
        spacing, newest = self._spacing(picked), self._stamps[-1]
        if not self._timing.stride_min <= spacing <= self._timing.stride_max:
            return False
        grid = [newest - step * spacing for step in reversed(range(len(picked)))]
        return all(abs(self._stamps[i] - at) <= self._timing.jitter for i, at in zip(picked, grid, strict=True))

    def _spacing(self, picked: list[int]) -> int:
        return (self._stamps[picked[-1]] - self._stamps[picked[0]]) // (len(picked) - 1)

    def _off_stride(self, picked: list[int]) -> int:
        # Equally far from the stride: the first, which is the longer one, wins.
        return abs(self._spacing(picked) - self._timing.stride)
