"""A renderer in its own process: forecasts are not affected by its crashes, its memory or its GIL."""

import pickle
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.reader import Bundle
from re2pix_node.common import subprocess_python
from re2pix_node.common.decoder_stderr import stderr_in_place
from re2pix_node.common.process_clock import Holds, ProcessClock
from re2pix_node.engines.trial import SWITCH
from re2pix_node.errors import EngineError, NotFiniteError
from re2pix_node.render.renderer import PictureScene

CHILD = "re2pix_node.render.child"
# A step that takes longer than this (s) hangs. Time that it only waits for a busy machine does not count.
LOAD_SECONDS = 120.0
DRAW_SECONDS = 10.0
LOOKS = 10  # checks in that time, to see which of the two it is
PATIENCE = 0.5  # s that a check waits for the end of a hold


class RenderProcess:
    """A child process with a `PictureRenderer`. For one thread, with which it ends; any thread may call `kill`."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """Start it; `ready` waits until it has loaded. It draws with exactly the files that `bundle` names."""
        self._pipe, theirs = Pipe()
        self._overdue = 0.0  # the time limit that was exceeded, in s
        self._holds = Holds()  # replaced as a whole, because one thread writes it and another reads it
        with theirs, _without_ctrl_c(), stderr_in_place():
            # Not multiprocessing, whose processes import the parent's main module, and so ROS. Not in a session of
            # its own: Linux first shares processors among sessions, and idle in another session is not idle in ours.
            self._process = subprocess.Popen(
                subprocess_python.command(CHILD, str(theirs.fileno())),
                env={**subprocess_python.environment(), SWITCH: "never"},  # it is itself the process that may crash
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._pipe.send((bundle, threads))  # small enough to fit into the pipe without waiting

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self, timeout: float = LOAD_SECONDS) -> str:
        """Wait until it can draw; return the name of its engine. If it cannot, it is ended and EngineError raised."""
        with self._no_longer_than(timeout):
            return str(self._answer())

    def draw(self, scene: PictureScene, timeout: float = DRAW_SECONDS) -> NDArray[np.uint8]:
        """The picture, as from `PictureRenderer.draw`. After any error except NotFiniteError the process is ended."""
        with self._no_longer_than(timeout):
            send(self._pipe, scene)
            picture: NDArray[np.uint8] = self._answer()
            return picture

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop it in this block: even at idle priority it takes caches and memory bandwidth from other threads.

        If another program has stopped it, for example a debugger, it stays stopped.
        """
        if _is_stopped(self.pid):
            yield
            return
        self._holds = Holds(self._holds.seconds, since=time.monotonic())
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
            self._holds = Holds(self._holds.until(time.monotonic()))

    def kill(self) -> None:
        """End the process at once; a thread that waits for its answer gets an EngineError."""
        self._process.kill()

    def close(self) -> None:
        """End the process and wait a moment for its end, which takes a while on a busy machine."""
        self._process.kill()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            threading.Thread(target=self._process.wait, daemon=True).start()  # so that no zombie remains
        self._pipe.close()

    @contextmanager
    def _no_longer_than(self, seconds: float) -> Iterator[None]:
        # Watched by another thread: a process that hangs may not even read its input.
        done = threading.Event()
        threading.Thread(target=self._end_overdue, args=[seconds, done], daemon=True).start()
        try:
            yield
        except NotFiniteError:
            raise
        except (EOFError, OSError):
            raise EngineError(f"the renderer {self._how_it_ended()}") from None
        except EngineError:
            self.kill()
            raise
        finally:
            done.set()

    def _end_overdue(self, seconds: float, done: threading.Event) -> None:
        """End it if it is not done within this time. Holds and waits for a processor do not count."""
        clock = ProcessClock(self.pid, lambda: self._holds)
        while not done.wait(seconds / LOOKS):
            self._wait_for_the_end_of_a_hold(PATIENCE)
            if clock.read() > seconds and not done.is_set():
                self._overdue = seconds
                self.kill()
                return

    def _wait_for_the_end_of_a_hold(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._holds.under_way and time.monotonic() < deadline:
            time.sleep(0.01)

    def _answer(self) -> Any:
        answer = receive(self._pipe)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _how_it_ended(self) -> str:
        self.kill()  # a process that lives but has closed its end of the pipe is useless
        code = self._process.wait()
        if self._overdue:
            return f"was ended: it took more than {self._overdue:g} s, waits for a processor not counted (it hangs)"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Block SIGINT in this block: a process that is started here inherits that and gets none until it unblocks it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:  # the process has ended
        return False


def send(pipe: Connection, message: object) -> None:
    """Send arrays as raw memory: pickling them would block every other thread for milliseconds."""
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    pipe.send((body, len(arrays)))
    for array in arrays:
        pipe.send_bytes(array.raw())


def receive(pipe: Connection) -> Any:
    """Receive an object of `send`; EOFError if the sender is gone. Only from our own parent or child."""
    body, arrays = pipe.recv()
    buffers = [bytearray(pipe.recv_bytes()) for _ in range(arrays)]
    return pickle.loads(body, buffers=buffers)  # noqa: S301
