"""The rolling buffer of encoded frames, sampled by header stamp. All times are whole nanoseconds."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")

# Frames kept per longest stride. A camera this fast (267 Hz at a stride of 0.24 s) already offers every spacing to
# within 1/64 of it; faster frames, for example from a broken clock, are thinned out.
FRAMES_PER_STRIDE = 64


class Arrival(Enum):
    """How a frame's stamp follows the previous one; the value completes the sentence "this frame ...\"."""

    IN_ORDER = "follows in order"
    REPEATED = "has the stamp of the one before: it is ignored"
    JUMPED_BACK = "jumps back in time: earlier frames are forgotten"
    AFTER_GAP = "comes after a gap too long to forecast across: earlier frames are forgotten"


@dataclass(frozen=True)
class Timing:
    """How the frames of a context must be spaced, ns."""

    context: int  # frames in a context
    stride: int  # nominal spacing
    stride_min: int
    stride_max: int
    jitter: int  # how far a frame may be from the even grid

    def __post_init__(self) -> None:
        if self.context < 1:
            raise ValueError(f"context must be at least 1, is {self.context}")
        if self.stride_min <= 0:
            raise ValueError(f"stride_min must be positive, is {self.stride_min}")
        if not self.stride_min <= self.stride <= self.stride_max:
            raise ValueError(f"stride must lie from {self.stride_min} to {self.stride_max}, is {self.stride}")
        # Neighbours of a context are at least stride_min - 2 * jitter apart. While that is positive, a context cannot
        # run backwards nor pick one frame twice.
        if not 0 <= 2 * self.jitter < self.stride_min:
            raise ValueError(f"jitter must lie from 0 to below half of {self.stride_min}, is {self.jitter}")

    @property
    def longest_span(self) -> int:
        """From the oldest to the newest frame of a context."""
        return (self.context - 1) * self.stride_max

    @property
    def longest_gap(self) -> int:
        """Between neighbours of a context (of two frames or more).

        The newest and the oldest frame are on the grid by definition; each of the others may be `jitter` off it. So
        neighbours are at most stride_max apart in a context of two frames, one jitter more with three frames (the
        middle one is off), and two jitters more in longer contexts (two inner frames are off in opposite directions).
        """
        return self.stride_max + min(self.context - 2, 2) * self.jitter


@dataclass(frozen=True)
class Context(Generic[T]):
    """Evenly spaced frames, oldest first."""

    frames: tuple[T, ...]
    stamps: tuple[int, ...]
    spacing: int  # mean spacing that is really used


class FrameBuffer(Generic[T]):
    """Keeps the frames that a context can still use."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._most = 1 + FRAMES_PER_STRIDE * (timing.context - 1)
        # Two parallel lists, strictly rising by stamp.
        self._stamps: list[int] = []
        self._frames: list[T] = []

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def newest(self) -> int | None:
        """The stamp of the newest frame."""
        return self._stamps[-1] if self._stamps else None

    def clear(self) -> None:
        self._forget(len(self))

    def converted(self, change: Callable[[T], T]) -> "FrameBuffer[T]":
        """A buffer of the same moments, with every frame changed."""
        made: FrameBuffer[T] = FrameBuffer(self._timing)
        made._stamps, made._frames = list(self._stamps), [change(frame) for frame in self._frames]
        return made

    def push(self, stamp: int, frame: T) -> Arrival:
        """Add a frame, and drop those that no context from this one on can use."""
        if stamp < 0:
            raise ValueError(f"stamp must not be negative, is {stamp}")
        arrival = self._arrival(stamp)
        if arrival is Arrival.REPEATED:
            return arrival
        if arrival is not Arrival.IN_ORDER:
            self.clear()
        self._stamps.append(stamp)
        self._frames.append(frame)
        self._forget(bisect_left(self._stamps, stamp - self._timing.longest_span))
        if len(self) > self._most:
            self._thin_out()
        return arrival

    def context(self) -> Context[T] | None:
        """The context that ends with the newest frame, with the available spacing nearest to the nominal stride."""
        if not self._stamps:
            return None
        if self._timing.context == 1:
            return self._context_of([len(self) - 1], self._timing.stride)
        for first in self._first_steps():
            picks = self._follow(first)
            if self._is_even(picks):
                steps = len(picks) - 1
                span = self._behind(picks[-1])
                return self._context_of(picks, (span + steps // 2) // steps)
        return None

    def _arrival(self, stamp: int) -> Arrival:
        newest = self.newest
        if newest is None or 0 < stamp - newest <= self._timing.longest_gap:
            return Arrival.IN_ORDER
        if stamp == newest:
            return Arrival.REPEATED
        if stamp < newest:
            return Arrival.JUMPED_BACK
        # A context of one frame spans no gap, so gaps do not matter.
        return Arrival.AFTER_GAP if self._timing.context > 1 else Arrival.IN_ORDER

    def _forget(self, count: int) -> None:
        del self._stamps[:count]
        del self._frames[:count]

    def _thin_out(self) -> None:
        """Drop the frame whose loss leaves the smallest gap, so that the rest still spans a context."""
        stamps = self._stamps
        drop = min(range(1, len(stamps) - 1), key=lambda i: stamps[i + 1] - stamps[i - 1])
        del self._stamps[drop]
        del self._frames[drop]

    def _behind(self, index: int) -> int:
        return self._stamps[-1] - self._stamps[index]

    def _first_steps(self) -> list[int]:
        """Indices of the frames that may be the newest one's neighbour, the best first."""
        timing = self._timing
        oldest = bisect_left(self._stamps, self._stamps[-1] - timing.stride_max - timing.jitter)
        beyond = bisect_left(self._stamps, self._stamps[-1] - timing.stride_min + timing.jitter + 1)
        return sorted(range(oldest, beyond), key=self._distance_from_nominal)

    def _distance_from_nominal(self, index: int) -> tuple[int, int]:
        # At 25 Hz, 0.16 and 0.20 s are equally near to 0.18 s. The least noise in the stamps would swap them, and with
        # them the horizons, from frame to frame. So a longer step counts as 1/64 of the stride farther than it is:
        # ties and near ties go to the shorter one.
        excess = self._behind(index) - self._timing.stride
        lean = self._timing.stride // 64 if excess > 0 else 0
        return abs(excess) + lean, self._behind(index)

    def _follow(self, first: int) -> list[int]:
        """Indices from the newest frame through `first`: each next frame is the one nearest to the place that the mean
        spacing so far predicts."""
        picks = [len(self) - 1, first]
        for steps in range(1, self._timing.context - 1):
            target = self._stamps[-1] - self._behind(picks[-1]) * (steps + 1) // steps
            picks.append(self._nearest(target))
        return picks

    def _nearest(self, target: int) -> int:
        """Index of the frame nearest to a time before the newest; the newer one of two equally near frames."""
        after = bisect_left(self._stamps, target)
        if after == 0 or self._stamps[after] - target <= target - self._stamps[after - 1]:
            return after
        return after - 1

    def _is_even(self, picks: list[int]) -> bool:
        # Both sides are multiplied by the number of steps, because the mean spacing may not be a whole number of ns.
        timing, steps, span = self._timing, len(picks) - 1, self._behind(picks[-1])
        return timing.stride_min * steps <= span <= timing.stride_max * steps and all(
            abs(i * span - self._behind(pick) * steps) <= timing.jitter * steps for i, pick in enumerate(picks)
        )

    def _context_of(self, picks: list[int], spacing: int) -> Context[T]:
        oldest_first = picks[::-1]
        return Context(
            frames=tuple(self._frames[i] for i in oldest_first),
            stamps=tuple(self._stamps[i] for i in oldest_first),
            spacing=spacing,
        )
