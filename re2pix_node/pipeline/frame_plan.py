"""Plans which frames are encoded when there is no time for all of them.

A frame that is lost costs every forecast whose context needs it. So a node that cannot keep up takes every n-th frame
of a camera, evenly, and skips forecasts before it skips frames.
"""

import threading
from collections import deque
from statistics import median

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.pipeline.buffer import Timing

GAPS, TIMES = 31, 15  # how many of the last gaps and times are looked at
FEWEST = 3  # times that must be known
ROOM = 1.15  # planned times are this much longer than measured ones
SKIPPED_MAX = 3  # forecasts skipped in a row: with more, a machine that is always behind would make none
GAIN = 1.2  # a plan must be better by this factor before it replaces the one at work
STEADY = 2.0  # seconds between two changes to more frames; to fewer, a change comes at once


class FramePlan:
    """Call `wants` for each frame that arrives, in order; from the thread that works, the other two for each frame."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._lock = threading.Lock()  # of the times
        self._gaps: deque[int] = deque(maxlen=GAPS)
        self._seen: int | None = None  # stamp of the newest frame
        self._origin = 0  # stamp of the newest frame that was wanted
        self._changed = 0  # its stamp when the plan last changed
        self._encode: deque[float] = deque(maxlen=TIMES)
        self._forecast: deque[float] = deque(maxlen=TIMES)
        self._skipped = 0  # forecasts that were skipped in a row
        self.every = 1  # of the camera's frames, every n-th is wanted

    def wants(self, stamp: int) -> bool:
        """Return True if the frame is to be encoded."""
        before, self._seen = self._seen, stamp
        if before is None or not 0 < stamp - before <= self._timing.longest_gap:
            self._gaps.clear()
            self._origin = stamp
            return True
        self._gaps.append(stamp - before)
        self._choose()
        gap, stride = self._gap(), self.every * self._gap()
        phase = (stamp - self._origin) % stride
        # A frame beside the grid is of no use; but after two strides without any, the grid is wrong.
        if self.every > 1 and min(phase, stride - phase) > gap / 2 and stamp - self._origin < 2 * stride:
            return False
        if self.every > 1 and stamp - self._origin < stride - gap / 2:
            return False
        self._origin = stamp
        return True

    def forecasts(self, waiting: bool) -> bool:
        """Return True if the frame at hand is to be forecast from, although newer ones may be `waiting`."""
        self._skipped = self._skipped + 1 if waiting and self._skipped < SKIPPED_MAX else 0
        return not self._skipped

    def took(self, encode: float, forecast: float | None) -> None:
        """Note the seconds that a frame took up to its features, and from there on if it had a forecast."""
        with self._lock:
            self._encode.append(encode)
            if forecast is not None:
                self._forecast.append(forecast)

    def _gap(self) -> float:
        return float(median(self._gaps))

    def _choose(self) -> None:
        assert self._seen is not None
        with self._lock:
            if len(self._encode) < FEWEST or len(self._gaps) < FEWEST:
                return
            encode = ROOM * median(self._encode)
            forecast = ROOM * median(self._forecast) if self._forecast else encode
        gap = self._gap() / NANOSECONDS
        rates = {n: _rate(n * gap, encode, forecast) for n in self._choices(gap)}
        if not rates:
            return
        now = rates.get(self.every, 0.0)
        best = max(rates, key=lambda n: (round(rates[n], 3), -n))
        more = best < self.every
        if rates[best] <= GAIN * now or (more and self._seen - self._changed < STEADY * NANOSECONDS):
            return
        self.every, self._changed = best, self._seen

    def _choices(self, gap: float) -> list[int]:
        """Numbers n whose frames, n gaps apart, have an even spacing that the bundle takes."""
        least, most = (bound / NANOSECONDS for bound in (self._timing.stride_min, self._timing.stride_max))
        return [n for n in range(1, max(int(most / gap), 1) + 1) if int(most / (n * gap)) * n * gap >= least or n == 1]


def _rate(period: float, encode: float, forecast: float) -> float:
    """Forecasts a second from a frame every `period` seconds."""
    return min(1 / period, max(0.0, 1 - encode / period) / forecast)
