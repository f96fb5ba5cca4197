"""How long a process takes, whatever else its machine is busy with."""

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")  # in which Linux counts processor time, a second


@dataclass(frozen=True)
class Holds:
    """How long we have kept a process from all work. Another value as soon as a hold begins or ends."""

    seconds: float = 0.0  # in all the holds that are over
    since: float = math.inf  # when that of now began, steady time

    @property
    def under_way(self) -> bool:
        return self.since < math.inf

    def until(self, now: float) -> float:
        return self.seconds + max(0.0, now - self.since)


@dataclass(frozen=True)
class Look:
    """At a process."""

    at: float  # steady time
    held: float  # s so far
    ready: bool  # whether any thread has a processor or wants one, as far as that can be told
    worked: Mapping[str, float]  # for how many seconds each thread has had one


class ProcessClock:
    """Goes on while a process works, sleeps or is stopped by others; stands still while we hold it, and while it only
    waits for a processor.

    It looks when it is read: to be read often, but not more so than ticks come, and better not during a hold.
    """

    def __init__(self, pid: int, holds: Callable[[], Holds] = Holds) -> None:
        self._pid = pid
        self._holds = holds
        self._seconds = 0.0
        self._last = self._look()

    def read(self) -> float:
        """Seconds since it was made."""
        look = self._look()
        self._seconds += seconds_between(self._last, look)
        self._last = look
        return self._seconds

    def _look(self) -> Look:
        holds, now = self._holds(), time.monotonic()
        ready, worked = _threads(self._pid)
        # A thread that we hold looks the same whatever it was doing.
        unclear = holds.under_way or self._holds() != holds
        return Look(now, holds.until(now), ready or unclear, worked)


def seconds_between(last: Look, look: Look) -> float:
    """That count."""
    if look.ready:
        # At work, or waiting to be: what the busiest thread got tells which.
        return max((seconds - last.worked.get(thread, 0.0) for thread, seconds in look.worked.items()), default=0.0)
    return look.at - last.at - (look.held - last.held)


def _threads(pid: int) -> tuple[bool, dict[str, float]]:
    """Whether any thread has a processor or wants one, and for how many seconds each has had one."""
    ready, worked = False, {}
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):  # a thread that has ended meanwhile
            fields = (thread / "stat").read_text().rpartition(")")[2].split()  # from the state on
            ready |= fields[0] == "R"
            worked[thread.name] = (int(fields[11]) + int(fields[12])) / TICKS  # as user, and in the kernel
    return ready, worked
