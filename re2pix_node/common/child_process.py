"""Functions of ours in a fresh process: it shares no memory with this one and no state of a GPU, and imports nothing
from the working directory. It ends with this process."""

import contextlib
import importlib
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from re2pix_node.common import subprocess_python
from re2pix_node.common.parent import end_with_the_parent
from re2pix_node.common.wording import described
from re2pix_node.errors import Re2pixError

Result = TypeVar("Result")


class ChildProcess:
    """A process that calls a function with a pipe to here and with the arguments."""

    def __init__(self, module: str, function: str, *arguments: Any) -> None:
        """The function by its name: that of a module which runs as `__main__` here has another name there."""
        self.pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                subprocess_python.command(__name__, str(theirs.fileno()), module, function),
                env=subprocess_python.environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        with contextlib.suppress(BrokenPipeError):  # it has ended already; who waits for its answer learns how
            self.pipe.send(arguments)

    @property
    def pid(self) -> int:
        return self._process.pid

    def how_it_ended(self) -> str:
        """Wait for its end; say how it was, as in "was ended by SIGKILL"."""
        code = self._process.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def close(self, seconds: float = 0.0) -> None:
        """Close the pipe and end the process, after these seconds if it does not end by itself."""
        self.pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._process.kill()
        self._process.wait()


def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """The function's result from a fresh process. An error of ours is raised here as it was there."""
    child = ChildProcess(__name__, "_answer", function.__module__, function.__name__, arguments)
    try:
        result, error = child.pipe.recv()
    except (EOFError, ConnectionResetError):
        raise Re2pixError(f"a process for {function.__name__} {child.how_it_ended()}") from None
    finally:
        child.close()
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _answer(pipe: Connection, module: str, function: str, arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send((getattr(importlib.import_module(module), function)(*arguments), None))
    except Re2pixError as error:
        pipe.send((None, error))
    except Exception as error:
        pipe.send((None, RuntimeError(described(error))))


def main() -> int:
    """The child's side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and then ends this process
    end_with_the_parent()
    number, module, function = sys.argv[1:]
    with Connection(int(number)) as pipe, contextlib.suppress(EOFError, BrokenPipeError):
        getattr(importlib.import_module(module), function)(pipe, *pipe.recv())
    return 0
