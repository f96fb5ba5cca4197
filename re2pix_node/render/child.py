"""The process that draws: `main` with the PIPE as its argument; process.py starts it.

It works when nobody else wants the processor, and ends as soon as whoever started it is gone.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us, and is blocked until here
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    _end_with_the_parent()
    _give_way()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is reported, and may come once a minute
    pipe = Connection(int(sys.argv[1]))
    with contextlib.suppress(EOFError, OSError):
        return _serve(pipe)
    return 1


def _end_with_the_parent() -> None:
    """By the kernel: it does so whatever we are doing, and even when we are stopped. A parent that has gone already is
    noticed by the pipe, which it held open."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _give_way() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:  # forbidden, as in some containers
        os.nice(19)


def _serve(pipe: Connection) -> int:
    # Imported here: the threads of these libraries must give way as well; they are as the thread that makes them.
    from re2pix_node.engines.base import one_line
    from re2pix_node.errors import EngineError, NotFiniteError, Re2pixError
    from re2pix_node.render.process import receive, send
    from re2pix_node.render.renderer import PictureRenderer

    try:
        bundle, threads = pipe.recv()
        renderer = PictureRenderer(bundle, threads)
        send(pipe, renderer.name)
        while True:
            scene = receive(pipe)
            try:
                send(pipe, renderer.draw(scene))
            except NotFiniteError as error:
                send(pipe, error)
    except EOFError:
        return 0
    except Exception as error:  # all of them are the parent's to tell
        name = "" if isinstance(error, Re2pixError) else f"{type(error).__name__}: "
        send(pipe, EngineError(name + one_line(error)))
        return 1
