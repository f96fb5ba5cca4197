"""Builds engines that take minutes in the background, while another one serves."""

import logging
import threading
from collections.abc import Sequence

from re2pix_node.bundle.reader import Bundle
from re2pix_node.common.wording import one_line
from re2pix_node.engines.attempt import EngineAttempt, try_engine
from re2pix_node.engines.base import BuildInProgress, Engine, Runtime

logger = logging.getLogger(__name__)


class Upgrade:
    """Builds, loads and proves engines of one runtime, precision by precision, until one passes."""

    def __init__(self, bundle: Bundle, runtime: Runtime, precisions: Sequence[str], threads: int) -> None:
        self.runtime = runtime
        self.engine: Engine | None = None  # read it when the upgrade is done
        self.attempts: list[EngineAttempt] = []
        self._bundle = bundle
        self._precisions = precisions
        self._threads = threads
        self._build: BuildInProgress | None = None
        self._at = ""
        self._ended = threading.Event()
        self._cancelled = threading.Event()
        # A daemon thread: the process does not wait for it, and the builder ends with the process.
        threading.Thread(target=self._run, name="engine upgrade", daemon=True).start()

    def done(self) -> bool:
        return self._ended.is_set()

    def wait(self) -> None:
        self._ended.wait()

    def progress(self) -> str:
        """The progress in words; empty when nothing is left to do."""
        build = self._build
        if self.done() or not self._at:
            return ""
        if build is None or build.done():
            return f"{self._at}: being loaded and proved"
        told = build.progress()
        return f"{self._at}: {told.phase}, {told.percent:.0f}% after {told.seconds / 60:.1f} min"

    def cancel(self) -> None:
        self._cancelled.set()
        build = self._build
        if build:
            build.cancel()

    def _run(self) -> None:
        for precision in self._precisions:
            if not (self.engine or self._cancelled.is_set()):
                self._make(precision)
        self._ended.set()

    def _make(self, precision: str) -> None:
        assert self.runtime.start_build is not None
        self._at = f"{self.runtime.name} {precision}"
        try:
            self._build = self.runtime.start_build(self._bundle, precision)
            if self._cancelled.is_set():  # cancelled before there was anything to cancel
                self._build.cancel()
            self._build.result()
            self.engine, attempt = try_engine(self.runtime, self._bundle, precision, self._threads)
        except Exception as error:  # after any error the engine in use continues
            attempt = EngineAttempt(self.runtime.name, precision, None, one_line(error))
        logger.log(logging.WARNING if attempt.fault else logging.INFO, "%s", attempt)
        self.attempts.append(attempt)
