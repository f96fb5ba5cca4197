"""A clock that stands still while a process only waits for a processor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from re2pix_node.common.process_clock import TICKS, Holds, Look, ProcessClock, seconds_between

WORKS, SLEEPS = "while True: pass", "import time; time.sleep(60)"


@contextmanager
def running(script: str, idle: bool = False) -> Iterator[int]:
    """A process on one processor that it shares with all others of these tests."""
    start = f"import os\nos.sched_setaffinity(0, {{{max(os.sched_getaffinity(0))}}})\n"
    if idle:
        start += "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
    words = [sys.executable, "-c", f"{start}print(flush=True)\n{script}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def wait_for_state(pid: int, state: str) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        assert time.monotonic() < deadline, state
        time.sleep(0.01)


def worked(pid: int) -> float:
    """Processor time of a process, as Linux counts it."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS


def check_that_it_goes_with(other: Callable[[], float], pid: int, seconds: float = 1.0) -> None:
    """The clock against another. This test may have to wait for a processor between any two lines."""
    early = other()
    clock = ProcessClock(pid)
    late, end = other(), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
        clock.read()
    least = other() - late
    read = clock.read()
    assert least - 2 / TICKS <= read <= other() - early + 2 / TICKS
    assert read > 0


def test_of_what_works_it_counts_the_work() -> None:
    with running(WORKS) as pid:
        check_that_it_goes_with(lambda: worked(pid), pid)


@pytest.mark.parametrize("script", [WORKS, SLEEPS])
def test_it_goes_on_with_what_others_stop_or_what_sleeps(script: str) -> None:
    with running(script) as pid:
        if script is WORKS:
            os.kill(pid, signal.SIGSTOP)
        wait_for_state(pid, "T" if script is WORKS else "S")
        check_that_it_goes_with(time.monotonic, pid)


def test_it_stands_still_while_others_have_the_processor() -> None:
    with ExitStack() as stack:
        pid = stack.enter_context(running(WORKS, idle=True))
        for _ in range(3):
            stack.enter_context(running(WORKS))
        clock = ProcessClock(pid)
        for _ in range(30):
            time.sleep(0.05)
            read = clock.read()
        assert read < 0.15


# What a look at the end of a second tells: how long it was held, whether a thread was ready, and what two threads got.
@pytest.mark.parametrize(
    ("held", "ready", "first", "second", "counted"),
    [
        (0.0, False, 0.0, 0.0, 1.0),  # sleeps, or was stopped by others
        (0.0, True, 0.0, 0.0, 0.0),  # waits for a processor
        (0.0, True, 0.1, 0.9, 0.9),  # works
        (0.6, False, 0.0, 0.0, 0.4),  # sleeps, and is held
        (0.6, True, 0.0, 0.0, 0.0),  # waits, and is held
        (0.9, True, 0.1, 0.0, 0.1),  # works whenever it may
        (1.0, False, 0.0, 0.0, 0.0),  # is held all the time
    ],
)
def test_what_counts(held: float, ready: bool, first: float, second: float, counted: float) -> None:
    last = Look(5.0, 3.0, True, {"a": 7.0})
    look = Look(6.0, 3.0 + held, ready, {"a": 7.0 + first, "b": second})
    assert seconds_between(last, look) == pytest.approx(counted)


def test_it_does_not_mistake_a_hold_for_sleep() -> None:
    with running(WORKS) as pid:
        os.kill(pid, signal.SIGSTOP)
        wait_for_state(pid, "T")
        begun = time.monotonic()
        clock = ProcessClock(pid, lambda: Holds(1.0, since=begun))
        time.sleep(0.5)
        assert clock.read() == 0
        # One that began, or ended, while it looked.
        holds = iter(Holds(float(i)) for i in range(10))
        clock = ProcessClock(pid, lambda: next(holds))
        time.sleep(0.5)
        assert clock.read() == 0


def test_a_hold_counts_while_it_lasts() -> None:
    holds = Holds(2.0)
    assert holds.until(10.0) == 2.0
    assert Holds(2.0, since=7.0).until(10.0) == 5.0


def test_it_bears_a_process_that_has_ended() -> None:
    with running(SLEEPS) as pid:
        clock = ProcessClock(pid)
    assert clock.read() >= 0
    assert ProcessClock(pid).read() >= 0
