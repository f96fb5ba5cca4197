"""A renderer in a process of its own: its crashes, memory and GIL are its own, and forecasts do not wait for it."""

import os
import pickle
import signal
import subprocess
import sys
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

from re2pix_node.bundle import Bundle
from re2pix_node.errors import EngineError, NotFiniteError
from re2pix_node.process_clock import ProcessClock
from re2pix_node.rendering import Scene

CHILD = "re2pix_node.render_child"
# What takes longer than this (s) hangs, or is of no use; but what only waits for a busy machine does neither.
LOAD_SECONDS = 120.0
DRAW_SECONDS = 10.0
LOOKS = 10  # in that time, to see which it does


class RenderProcess:
    """A child process that holds a `Renderer`. For one thread, with which it ends; `kill` may come from any."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """Starts it; `ready` waits until it has loaded. It draws with the very files that `bundle` names."""
        self._pipe, theirs = Pipe()
        self._overdue = 0.0  # s that were too long, once they were
        self._held = 0.0  # s in all
        with theirs:
            # Not multiprocessing's own processes, which import what their parent runs, and so ROS. Not in a session of
            # its own: Linux shares processors among sessions first, and idle in another session is not idle in ours.
            self._process = subprocess.Popen(
                [sys.executable, "-m", CHILD, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # it finds what we found
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._pipe.send((bundle, threads))  # small enough not to wait for anybody

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self, timeout: float = LOAD_SECONDS) -> str:
        """Waits until it can draw; gives the name of its engine. EngineError when it cannot, and is ended."""
        with self._no_longer_than(timeout):
            return str(self._answer())

    def draw(self, scene: Scene, timeout: float = DRAW_SECONDS) -> NDArray[np.uint8]:
        """The picture, as `Renderer.draw` gives it. After any error but NotFiniteError the process is ended."""
        with self._no_longer_than(timeout):
            send(self._pipe, scene)
            picture: NDArray[np.uint8] = self._answer()
            return picture

    @contextmanager
    def held(self) -> Iterator[None]:
        """It does nothing meanwhile: even at idle priority it takes caches and memory from who works beside it.

        Whoever has stopped it, a debugger perhaps, keeps it stopped.
        """
        if _is_stopped(self.pid):
            yield
            return
        self._process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
            self._held += time.monotonic() - begun

    def kill(self) -> None:
        """Ends the process at once; who waits for its answer gets an EngineError."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process, and waits for its end."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    @contextmanager
    def _no_longer_than(self, seconds: float) -> Iterator[None]:
        # By a clock of its own: a process that hangs may not even take in what it is sent.
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
        """Ends it when it is not done after so long. Being held, and waits for a processor, do not count."""
        clock, held = ProcessClock(self.pid), self._held
        while not done.wait(seconds / LOOKS):
            if clock.read() - (self._held - held) > seconds:
                self._overdue = seconds
                self.kill()
                return

    def _answer(self) -> Any:
        answer = receive(self._pipe)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _how_it_ended(self) -> str:
        self.kill()  # a process that has closed its end of the pipe, and lives, is of no use either
        code = self._process.wait()
        if self._overdue:
            return f"was ended: it took more than {self._overdue:g} s, waits for a processor not counted (it hangs)"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:  # it has ended
        return False


def send(pipe: Connection, message: object) -> None:
    """Arrays go as they lie in memory: to pickle them would hold up every other thread for milliseconds."""
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    pipe.send((body, len(arrays)))
    for array in arrays:
        pipe.send_bytes(array.raw())


def receive(pipe: Connection) -> Any:
    """What `send` has sent; EOFError when nobody is left to send. Only from our own parent or child."""
    body, arrays = pipe.recv()
    buffers = [bytearray(pipe.recv_bytes()) for _ in range(arrays)]
    return pickle.loads(body, buffers=buffers)  # noqa: S301
