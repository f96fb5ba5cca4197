"""Runs a case in a forked process with limits, and says whether the reader held."""

import faulthandler
import os
import resource
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from re2pix_node.errors import Re2pixError

SECONDS = 20  # of the processor
GROWTH = 400 << 20  # bytes of memory that a case may take
WRITES = 256 << 20  # bytes of a file
PATIENCE = 120  # s after which a case counts as hanging, however busy the machine is


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    name: str
    make: Callable[[np.random.Generator, Path], Path]  # writes a hostile file into the folder
    read: Callable[[Path], None]  # reads it as a user would


@dataclass(frozen=True)
class Verdict:
    kind: str
    number: int
    fault: str  # empty if the reader held

    def __str__(self) -> str:
        return f"{self.kind} {self.number}: {self.fault or 'held'}"


def run_case(kind: Kind, seed: int, number: int) -> Verdict:
    """A reader holds if it reads the file, or refuses it with one line, within the limits."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _attempt(kind, np.random.default_rng((seed, number)), Path(folder), writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            status = _wait(child)
            said = pipe.read().decode(errors="replace")
    if os.WIFSIGNALED(status):
        return Verdict(kind.name, number, f"ended by {signal.Signals(os.WTERMSIG(status)).name} {said}".strip())
    return Verdict(kind.name, number, said)


def _wait(child: int) -> int:
    # Not by an alarm: that is the one with which pytest ends a test that hangs.
    ended = os.pidfd_open(child)
    try:
        if not select.select([ended], [], [], PATIENCE)[0]:
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]
    finally:
        os.close(ended)


def _attempt(kind: Kind, rng: np.random.Generator, folder: Path, pipe: int) -> None:
    """Never returns; what it writes into the pipe is the fault."""
    try:
        faulthandler.disable()  # pytest's would print the tests' stack
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        path = kind.make(rng, folder)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + _spent(), SECONDS + _spent()))
        resource.setrlimit(resource.RLIMIT_FSIZE, (WRITES, WRITES))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        fault = _fault_of(kind, path)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if not fault and grown > GROWTH:
            fault = f"took {grown >> 20} MiB"
    except BaseException:
        fault = f"the case itself failed: {traceback.format_exc()}"
    os.write(pipe, fault.encode()[:4000])
    os._exit(0)


def _fault_of(kind: Kind, path: Path) -> str:
    try:
        kind.read(path)
    except Re2pixError as error:
        message = str(error)
        if not message.isprintable() or len(message) > 2000:
            return f"the message is no line: {message[:500]!a}"
    except BaseException as error:
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        return f"{type(error).__name__}: {str(error)[:300]} ({Path(where.filename).name}, line {where.lineno})"
    return ""


def _spent() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_utime + used.ru_stime) + 1
