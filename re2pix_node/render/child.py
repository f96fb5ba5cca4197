"""The process that draws: `main` with the PIPE as its argument; process.py starts it.

It works only when the processor is otherwise idle, and ends as soon as its parent is gone.
"""

import contextlib
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection

from re2pix_node.common.parent import end_with_the_parent


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C; it is blocked until here
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    end_with_the_parent()  # if it is already gone, the pipe that it held open is closed
    _give_way()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # crashes are reported, and may come once a minute
    pipe = Connection(int(sys.argv[1]))
    with contextlib.suppress(EOFError, OSError):
        return _serve(pipe)
    return 1


def _give_way() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:  # forbidden in some containers
        os.nice(19)


def _serve(pipe: Connection) -> int:
    # Imported here, so that the threads of these libraries also get idle priority: they inherit it from this thread.
    from re2pix_node.common.wording import one_line
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
    except Exception as error:  # the parent reports all of them
        name = "" if isinstance(error, Re2pixError) else f"{type(error).__name__}: "
        send(pipe, EngineError(name + one_line(error)))
        return 1
