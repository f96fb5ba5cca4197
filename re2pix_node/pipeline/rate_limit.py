"""Limits the rate of frames, by their stamps."""

import math
from collections import deque

from re2pix_node.bundle.manifest import NANOSECONDS

WINDOW = 30  # number of gaps from which the camera's rate is measured
CLOCKS = 0.02  # tolerance: a 10 Hz camera may send 10.2 frames in a second of its clock, which a limit of 10 must allow
JITTER = 0.1  # tolerance of one gap; over several gaps it averages out


class RateLimit:
    """Takes every n-th frame, with the smallest n that keeps the rate: for a context even spacing matters more than the
    exact rate."""

    def __init__(self) -> None:
        self._taken: int | None = None  # stamp of the newest frame taken
        self._seen: int | None = None  # stamp of the newest frame
        self._gaps: deque[int] = deque(maxlen=WINDOW)

    def takes(self, stamp: int, rate: float) -> bool:
        """Return True if a frame is to be used. `rate` is in frames a second; 0 takes every frame."""
        if self._seen is not None and stamp > self._seen:
            self._gaps.append(stamp - self._seen)
        else:
            self._gaps.clear()
        self._seen = stamp
        if rate > 0 and self._taken is not None and self._gaps and self._is_early(stamp - self._taken, rate):
            return False
        self._taken = stamp
        return True

    def _is_early(self, since: int, rate: float) -> bool:
        period = NANOSECONDS / rate
        # A longer gap is a pause and says nothing about the camera's rate.
        gap = sum(min(gap, 2 * period) for gap in self._gaps) / len(self._gaps)
        every = math.ceil(period / (gap * (1 + CLOCKS + JITTER / len(self._gaps))))
        return since < (every - 0.5) * gap
