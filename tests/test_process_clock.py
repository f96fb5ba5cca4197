"""A clock that stands still while a process only waits for a processor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from re2pix_node.process_clock import ProcessClock

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


def went_on(pid: int, seconds: float = 1.5) -> float:
    """By what share of the time the clock went on."""
    clock, begun = ProcessClock(pid), time.monotonic()
    while time.monotonic() < begun + seconds:
        time.sleep(0.05)
        read = clock.read()
    return read / (time.monotonic() - begun)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("script", [WORKS, SLEEPS])
def test_it_goes_on_with_what_works_or_does_nothing(script: str, stopped: bool) -> None:
    with running(script) as pid:
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        # Others may be at work on this machine.
        assert (0.2 if script is WORKS and not stopped else 0.9) < went_on(pid) < 1.1


def test_it_stands_still_while_others_have_the_processor() -> None:
    with ExitStack() as stack:
        pid = stack.enter_context(running(WORKS, idle=True))
        for _ in range(3):
            stack.enter_context(running(WORKS))
        assert went_on(pid) < 0.1


def test_it_bears_a_process_that_has_ended() -> None:
    with running(SLEEPS) as pid:
        clock = ProcessClock(pid)
    assert clock.read() >= 0
