"""How long a process takes, whatever else its machine is busy with."""

import os
import time
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")  # in which Linux counts processor time, a second


class ProcessClock:
    """Goes on while a process works, sleeps or is stopped; stands still while it only waits for a processor.

    It looks when it is read: to be read often, but not more so than ticks come.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seconds = 0.0
        self._looked = time.monotonic()
        _, self._worked = _threads(pid)

    def read(self) -> float:
        """Seconds since it was made."""
        now = time.monotonic()
        ready, worked = _threads(self._pid)
        if ready:
            # At work, or waiting to be: what the busiest thread got tells which.
            self._seconds += max(seconds - self._worked.get(thread, 0.0) for thread, seconds in worked.items())
        else:
            self._seconds += now - self._looked
        self._looked, self._worked = now, worked
        return self._seconds


def _threads(pid: int) -> tuple[bool, dict[str, float]]:
    """Whether any thread has a processor or wants one, and for how many seconds each has had one."""
    ready, worked = False, {}
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):  # a thread that has ended meanwhile
            fields = (thread / "stat").read_text().rpartition(")")[2].split()  # from the state on
            ready |= fields[0] == "R"
            worked[thread.name] = (int(fields[11]) + int(fields[12])) / TICKS  # as user, and in the kernel
    return ready, worked
