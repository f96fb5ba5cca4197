"""Measures how long a process takes, without the time that a busy machine costs it."""

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")  # ticks a second in which Linux counts processor time


@dataclass(frozen=True)
class Holds:
    """How long we have held a process. The value changes as soon as a hold begins or ends."""

    seconds: float = 0.0  # in all past holds
    since: float = math.inf  # start of the present hold, steady time

    @property
    def under_way(self) -> bool:
        return self.since < math.inf

    def until(self, now: float) -> float:
        return self.seconds + max(0.0, now - self.since)


@dataclass(frozen=True)
class Look:
    """One observation of a process."""

    at: float  # steady time
    held: float  # s so far
    ready: bool  # whether any thread has or needs a processor, as far as Linux shows it
    worked: Mapping[str, float]  # processor seconds of each thread


class ProcessClock:
    """Runs while a process works, sleeps or is stopped by others; stands still while we hold the process, and while it
    only waits for a processor.

    It observes the process when it is read: read it often, but not more often than ticks, and not during a hold.
    """

    def __init__(self, pid: int, holds: Callable[[], Holds] = Holds) -> None:
        self._pid = pid
        self._holds = holds
        self._seconds = 0.0
        self._last = self._look()

    def read(self) -> float:
        """Counted seconds since the start."""
        look = self._look()
        self._seconds += seconds_between(self._last, look)
        self._last = look
        return self._seconds

    def _look(self) -> Look:
        holds, now = self._holds(), time.monotonic()
        ready, worked = _threads(self._pid)
        # A held thread does not show what it was doing.
        unclear = holds.under_way or self._holds() != holds
        return Look(now, holds.until(now), ready or unclear, worked)


def seconds_between(last: Look, look: Look) -> float:
    """The counted seconds between two observations."""
    if look.ready:
        # Working, or waiting for a processor: the processor time of the busiest thread shows which.
        return max((seconds - last.worked.get(thread, 0.0) for thread, seconds in look.worked.items()), default=0.0)
    return look.at - last.at - (look.held - last.held)


def _threads(pid: int) -> tuple[bool, dict[str, float]]:
    """Whether any thread has or needs a processor, and the processor seconds of each thread."""
    ready, worked = False, {}
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # the process has ended meanwhile
        threads = []
    for thread in threads:
        with suppress(OSError):  # the thread has ended meanwhile
            fields = (thread / "stat").read_text().rpartition(")")[2].split()  # fields from the state on
            ready |= fields[0] == "R"
            worked[thread.name] = (int(fields[11]) + int(fields[12])) / TICKS  # user and kernel time
    return ready, worked
