"""Where engines come from: the ladder from the fastest to the last resort, and the way down it."""

import os
import time
from collections.abc import Iterator

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines import onnxruntime, openvino
from re2pix_node.engines.attempt import EngineAttempt, try_engine
from re2pix_node.engines.base import Engine, Runtime, one_line
from re2pix_node.engines.tensorrt import engine as tensorrt
from re2pix_node.engines.upgrade import Upgrade
from re2pix_node.errors import EngineError

# `auto` tries them in this order, the fastest first. The order is fixed, not timed at start-up: two runs on one machine
# must choose the same engine, or a replay would not repeat.
RUNTIMES: tuple[Runtime, ...] = (tensorrt.RUNTIME, openvino.RUNTIME, onnxruntime.RUNTIME)
ENGINES = ("auto", *(runtime.name for runtime in RUNTIMES))
PRECISIONS = ("auto", "fp16", "bf16", "fp32")
# An engine that was loaded anew and throws again within this time (s) is given up: loading it once more would not help.
RETRY_AFTER = 60.0


class EngineSupply:
    """Engines for one bundle, each proved before it is handed out, and what was tried on the way to them."""

    def __init__(
        self,
        bundle: Bundle,
        engine: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        background: bool = False,
    ) -> None:
        """`threads` = 0 uses every core that this process may run on.

        With `background`, engines that must be built first are waited for only when there is no other: another serves
        until then, and `upgraded` hands the better one over.
        """
        if engine not in ENGINES:
            raise EngineError(f"there is no engine '{engine}': choose one of {', '.join(ENGINES)}")
        if precision not in PRECISIONS:
            raise EngineError(f"there is no precision '{precision}': choose one of {', '.join(PRECISIONS)}")
        self.attempts: list[EngineAttempt] = []
        self._bundle = bundle
        self._engine = engine
        self._precision = precision
        self._threads = threads or len(os.sched_getaffinity(0))
        self._background = background
        self._upgrade: Upgrade | None = None
        self._ladder = self._rungs()
        self._rung: tuple[Runtime, str] | None = None
        self._renewed: float | None = None  # when the engine in use was loaded anew

    @property
    def passed_over(self) -> tuple[str, ...]:
        return tuple(str(attempt) for attempt in self.attempts if attempt.fault)

    def next(self) -> Engine:
        """The first engine, further down the ladder, that reproduces the bundle's proof."""
        for runtime, precision in self._ladder:
            engine = self._try(runtime, precision)
            if engine:
                self._rung, self._renewed = (runtime, precision), None
                return engine
        if self._upgrade:
            self._upgrade.wait()
            engine = self.upgraded()
            if engine:
                return engine
        raise EngineError(f"no engine can run {self._bundle.path}: {'; '.join(self.passed_over)}")

    def replace(self, fault: str) -> Engine:
        """For an engine that failed at work: once the same, loaded anew; after that, the next one down the ladder."""
        assert self._rung is not None
        runtime, precision = self._rung
        fault = fault.removeprefix(f"{runtime.name} {precision}: ")
        self.attempts.append(EngineAttempt(runtime.name, precision, None, fault))
        if self._renewed is None or time.monotonic() - self._renewed > RETRY_AFTER:
            self._renewed = time.monotonic()
            engine = self._try(runtime, precision)
            if engine:
                return engine
        return self.next()

    def upgraded(self) -> Engine | None:
        """A better engine than the one in use, once it has been built and has proved itself."""
        upgrade = self._upgrade
        if upgrade is None or not upgrade.done():
            return None
        self._upgrade, self._background = None, False
        self.attempts += upgrade.attempts
        if upgrade.engine:
            self._rung, self._renewed = (upgrade.runtime, upgrade.engine.precision), None
            # If it fails at work, those that served before it are next.
            self._ladder = (rung for rung in self._rungs() if rung[0] is not upgrade.runtime)
        return upgrade.engine

    def building(self) -> str:
        """How far the better engine is, for people; empty when none is being built."""
        return self._upgrade.progress() if self._upgrade else ""

    def close(self) -> None:
        """Ends what is being built."""
        if self._upgrade:
            self._upgrade.cancel()

    def _rungs(self) -> Iterator[tuple[Runtime, str]]:
        for runtime in RUNTIMES:
            if self._engine not in ("auto", runtime.name):
                continue
            try:
                offered = runtime.precisions()
            except Exception as error:  # not installed, or broken in a way of its own
                self.attempts.append(EngineAttempt(runtime.name, self._precision, None, one_line(error), absent=True))
                continue
            if self._precision not in ("auto", *offered):
                fault = f"this machine does not offer it, only {', '.join(offered)}"
                self.attempts.append(EngineAttempt(runtime.name, self._precision, None, fault))
            wanted = [precision for precision in offered if self._precision in ("auto", precision)]
            if self._background and runtime.ready and wanted and not runtime.ready(self._bundle, wanted[0]):
                self._upgrade = Upgrade(self._bundle, runtime, wanted, self._threads)
            else:
                yield from ((runtime, precision) for precision in wanted)

    def _try(self, runtime: Runtime, precision: str) -> Engine | None:
        engine, attempt = try_engine(runtime, self._bundle, precision, self._threads)
        self.attempts.append(attempt)
        return engine
