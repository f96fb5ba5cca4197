"""How a program of ours ends that was asked to stop, or that met an error which nobody foresaw."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from re2pix_node.common.wording import described, printable
from re2pix_node.errors import BAD_INPUT

UNFORESEEN = 70  # exit code: EX_SOFTWARE of sysexits.h
DEBUG = "RE2PIX_DEBUG"  # environment variable; not empty: tracebacks


class AskedToEndError(KeyboardInterrupt):
    """The process was asked to end by another signal than that of Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """In this block SIGTERM and SIGHUP raise AskedToEndError, once, so that nothing half-written is left.

    A signal that is ignored stays so, as `nohup` wants it for SIGHUP.
    """

    def stop(number: int, _: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # what is being cleaned up now must not be interrupted
        raise AskedToEndError(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report(who: str, error: Exception) -> int:
    """Say in one line what ended the program; return its exit code. A traceback needs `re2pix --debug`."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    line, code = _explained(error)
    print(f"{who}: {line}", file=sys.stderr)
    return code


def _explained(error: Exception) -> tuple[str, int]:
    match error:
        case OSError(filename=str() | bytes() as name, strerror=str() as why):
            return f"{printable(os.fsdecode(name))}: {why}: check the path, its permissions and the disk", BAD_INPUT
        case OSError():
            return f"the system refuses: {described(error)}: is the disk full, is a limit reached?", BAD_INPUT
        case MemoryError():
            return f"not enough memory, {described(error)}: free some, or raise the limit (ulimit -v)", BAD_INPUT
        case UnicodeError():
            return f"text that is not valid UTF-8, {described(error)}: correct the name or the file", BAD_INPUT
        case ValueError() if "null byte" in str(error) or "null character" in str(error):
            return "a name with a NUL byte, which no file can have: correct it", BAD_INPUT
    mend = f"set {DEBUG}=1 for the traceback, and send it to the maintainers of re2pix_node"
    return f"an error that nobody foresaw, {described(error)}: {mend}", UNFORESEEN
