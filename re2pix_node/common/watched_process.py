"""Waits for a child process, and ends one that hangs or takes too much memory."""

import os
import signal
import subprocess

from re2pix_node.common.limits import LOAD_PERCENT, Limit
from re2pix_node.common.process_clock import ProcessClock
from re2pix_node.common.process_usage import usage_of

LOOK = 0.05  # s between two looks


def end_of(child: "subprocess.Popen[bytes]", seconds: Limit, memory: Limit = LOAD_PERCENT) -> str:
    """Wait for the child's end; return how it ended, in words, or nothing if it ended well.

    It is killed when it exceeds a limit. Time that it only waits for a busy machine does not count.
    """
    clock = ProcessClock(child.pid)
    most = memory.value * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 100
    try:
        while True:
            try:
                code = child.wait(LOOK)
                break
            except subprocess.TimeoutExpired:
                if clock.read() > seconds.value:
                    return f"it hung and was ended, {seconds},"
                if _resident(child.pid) > most:
                    return f"it took too much memory and was ended, {memory},"
        if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it ended with code {code}" if code else ""
    finally:
        child.kill()
        child.wait()


def _resident(pid: int) -> int:
    try:
        return usage_of(pid).resident
    except (OSError, KeyError, ValueError):  # it has just ended
        return 0
