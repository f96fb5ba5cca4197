"""The process in which a bundle is tried: `main` with its parent's id, and the job on stdin; trial.py starts it."""

import ctypes
import importlib
import os
import pickle
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1  # of linux/prctl.h
WRITES_MAX = 1 << 20  # bytes of a file that it may write


def main() -> int:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # end with the parent, in any state
    if os.getppid() != int(sys.argv[1]):  # it has ended before
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (WRITES_MAX, WRITES_MAX))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory gets short, this process ends first
    job = pickle.load(sys.stdin.buffer)  # noqa: S301  # from our own parent
    module, precision, bundle, threads, (place, function) = job
    runtime = importlib.import_module(module).RUNTIME
    with suppress(Exception):  # the parent finds and reports the same
        getattr(importlib.import_module(place), function)(runtime, bundle, precision, threads)
    return 0
