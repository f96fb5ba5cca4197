"""Processes as Linux tells of them: whose children they are, and whether they are still there."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def has_ended(pid: int) -> bool:
    """Also before its exit code has been read."""
    try:
        return "Z (zombie)" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def wait_until_ended(pid: int, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return has_ended(pid)


@contextlib.contextmanager
def starved(pid: int, others: int = 4) -> Iterator[None]:
    """All of its threads want one processor, which so many others keep busy."""
    processor = max(os.sched_getaffinity(0))
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {processor})
    script = f"import os\nos.sched_setaffinity(0, {{{processor}}})\nprint(flush=True)\nwhile True: pass"
    with contextlib.ExitStack() as stack:
        for _ in range(others):
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE))
            stack.callback(busy.kill)
            assert busy.stdout
            busy.stdout.readline()
        yield


def stop_for_good(pid: int) -> None:
    """Stops it while it is being held: who holds it lets it go on once more. No frames may be under way."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.02)
        if not any(_awake(pid) for _ in range(100)):
            return
    raise AssertionError(f"{pid} goes on")


def _awake(pid: int) -> bool:
    time.sleep(0.003)
    return "T (stopped)" not in Path(f"/proc/{pid}/status").read_text()
