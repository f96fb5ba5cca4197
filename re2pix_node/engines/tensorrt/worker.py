"""The process that builds one engine: `main` with the REQUEST as its argument; building.py starts it.

It is a separate process, so that a crash of the builder costs only the engine, and so that its memory is freed. It
reports progress in JSON lines, and ends as soon as its parent is gone.
"""

import contextlib
import hashlib
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from re2pix_node.common.wording import one_line
from re2pix_node.engines.cache import cannot_write
from re2pix_node.engines.tensorrt.bindings import RTX, TENSORRT
from re2pix_node.engines.tensorrt.building import Request
from re2pix_node.engines.tensorrt.network import build_engine
from re2pix_node.errors import EngineError

SECONDS_BETWEEN = 0.1  # between lines of progress


class Channel:
    """JSON lines to the parent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()  # TensorRT reports from several threads
        self._last = -SECONDS_BETWEEN

    def say(self, **words: object) -> None:
        with self._lock:
            print(json.dumps(words), file=self._stream, flush=True)

    def progress(self, share: float, phase: str) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN:
            self._last = now
            with contextlib.suppress(BrokenPipeError):  # the parent is gone; the watcher ends this process
                self.say(share=share, phase=phase)


def main() -> int:
    request = Request(**json.loads(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # crashes are reported; a core file of gigabytes is useless
    channel = Channel(os.fdopen(os.dup(sys.stdout.fileno()), "w"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of libraries must not mix with the lines
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        _build(request, channel)
    except Exception as error:  # the parent reports all of them
        name = "" if isinstance(error, EngineError) else f"{type(error).__name__}: "
        channel.say(error=name + one_line(error))
        return 1
    channel.say(done=True)
    return 0


def _end_with_the_parent() -> None:
    """End with the parent: standard input is a pipe that closes when the parent ends in any way."""
    while os.read(sys.stdin.fileno(), 1):  # nothing is ever written to it
        pass
    os._exit(1)


def _build(request: Request, channel: Channel) -> None:
    data = Path(request.graph).read_bytes()
    if hashlib.sha256(data).hexdigest() != request.sha256:
        raise EngineError(f"{request.graph}: was replaced during the build")
    try:
        from re2pix_node.engines.tensorrt.retype import for_tensorrt
    except ModuleNotFoundError as error:
        raise EngineError(f"building engines needs the Python package {error.name}: pip install {error.name}") from None
    graph = for_tensorrt(data, request.precision)
    bindings = TENSORRT if request.module == TENSORRT.module else RTX
    engine = build_engine(bindings, graph, request.capability, Path(request.timing), channel.progress)
    try:
        with Path(request.engine).open("wb") as file:
            file.write(engine)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise EngineError(cannot_write(Path(request.engine).parent, error)) from None
