"""Builds engines in the background, each in its own process, with progress for the user."""

import json
import logging
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from re2pix_node.common import subprocess_python
from re2pix_node.common.wording import one_line
from re2pix_node.engines.base import BuildProgress
from re2pix_node.engines.cache import EngineCache, EngineKey
from re2pix_node.errors import EngineError

logger = logging.getLogger(__name__)
WORKER = "re2pix_node.engines.tensorrt.worker"


@dataclass(frozen=True)
class Request:
    """The request to the builder process."""

    module: str  # module of TensorRT
    graph: str  # path of the ONNX file
    sha256: str
    precision: str
    capability: str  # compute capability of the GPU to build for
    engine: str  # path to write to
    timing: str  # path of the timing cache


@dataclass(frozen=True)
class EngineJob:
    """One engine to build."""

    key: EngineKey
    what: str  # for messages, as "re2pix-nano encode fp16"
    module: str
    graph: Path


class EngineBuild:
    """Gets the engines of some jobs from the cache or builds them. Starts at once; any thread may call it."""

    def __init__(self, cache: EngineCache, jobs: Sequence[EngineJob], force: bool = False) -> None:
        self._cache, self._jobs, self._force = cache, jobs, force
        self._start = time.monotonic()
        self._progress = BuildProgress(0.0, 0.0, "")
        self._engines: list[Path] = []
        self._error: BaseException | None = None
        self._cancelled = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        # A daemon thread: the program does not wait for it, and the builder ends with the program.
        self._thread = threading.Thread(target=self._run, name="engine build", daemon=True)
        self._thread.start()

    def progress(self) -> BuildProgress:
        told = self._progress
        seconds = told.seconds if self.done() else time.monotonic() - self._start
        return BuildProgress(told.percent, seconds, told.phase)

    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, timeout: float | None = None) -> list[Path]:
        """The engines, in the order of the jobs; EngineError if one cannot be built."""
        self._thread.join(timeout)
        if not self.done():
            raise TimeoutError(f"not built within {timeout} s")
        if isinstance(self._error, EngineError):
            raise self._error
        if self._error is not None:
            raise EngineError(f"building failed: {one_line(self._error)}") from self._error
        return self._engines

    def cancel(self) -> None:
        """Stop the build soon; `result` then raises an error."""
        self._cancelled.set()
        process = self._process
        if process is not None:
            process.kill()

    def _run(self) -> None:
        try:
            # The time is roughly proportional to the size.
            sizes = [job.graph.stat().st_size for job in self._jobs]
            for i, job in enumerate(self._jobs):
                before, share = sum(sizes[:i]) / sum(sizes), sizes[i] / sum(sizes)
                self._engines.append(self._obtain(job, 100 * before, 100 * share))
            self._tell(100.0, "ready")
        except BaseException as error:  # `result` raises it
            self._error = error
            self._tell(self._progress.percent, one_line(error))

    def _obtain(self, job: EngineJob, before: float, size: float) -> Path:
        def report(share: float, phase: str) -> None:
            self._tell(before + size * share, f"{job.what}: {phase}")

        def build(path: Path) -> None:
            report(0.0, "starting")
            self._work(job, path, report)

        def waiting() -> None:
            self._check_cancelled()
            report(0.0, "another process is building it")

        self._check_cancelled()
        return self._cache.obtain(job.key, job.what, build, waiting, self._force)

    def _work(self, job: EngineJob, path: Path, report: Callable[[float, str], None]) -> None:
        key = job.key
        timing = self._cache.folder / f"{''.join(c if c.isalnum() else '-' for c in f'{key.library} {key.gpu}')}.timing"
        request = Request(job.module, str(job.graph), key.graph, key.precision, key.capability, str(path), str(timing))
        with tempfile.TemporaryFile("w+") as errors:
            process = self._process = subprocess.Popen(
                subprocess_python.command(WORKER, json.dumps(asdict(request))),
                env=subprocess_python.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            with process:  # closes the pipes and waits
                self._check_cancelled()  # it may have been cancelled before there was a process to kill
                last: dict[str, Any] = {}
                for line in process.stdout or ():
                    last = json.loads(line)
                    if "share" in last:
                        report(last["share"], last["phase"])
            self._check_cancelled()
            errors.seek(0)
            lines = [line.strip() for line in errors if line.strip()]
        for line in lines:  # warnings of TensorRT and of our worker
            logger.info("%s: %s", job.what, line)
        _check_end(job.what, process.returncode, last, lines)

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise EngineError("building was stopped")

    def _tell(self, percent: float, phase: str) -> None:
        self._progress = BuildProgress(percent, time.monotonic() - self._start, phase)


def _check_end(what: str, code: int, last: dict[str, Any], lines: list[str]) -> None:
    if code == 0 and last.get("done"):
        return
    if "error" in last:
        raise EngineError(f"{what}: {last['error']}")
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    raise EngineError(f"{what}: the builder {how}{': ' + lines[-1][:300] if lines else ''}")
