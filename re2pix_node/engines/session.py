"""The engine that runs a bundle: the first that passes the proof, later a better one, after a failure the next."""

import os
import time
from collections.abc import Iterator

from re2pix_node.bundle.reader import Bundle
from re2pix_node.common.wording import one_line
from re2pix_node.engines.attempt import EngineAttempt, try_engine
from re2pix_node.engines.base import Engine, Runtime
from re2pix_node.engines.registry import PRECISIONS, engine_names, runtimes
from re2pix_node.engines.upgrade import Upgrade
from re2pix_node.errors import EngineError

# A reloaded engine that throws again within this time (s) is given up: another reload would not help.
RETRY_AFTER = 60.0


def open_engine(
    bundle: Bundle, engine: str = "auto", precision: str = "auto", threads: int = 0
) -> tuple[Engine, list[EngineAttempt]]:
    """The first engine that reproduces the bundle's proof, and all attempts before it."""
    session = EngineSession(bundle, engine, precision, threads)
    return session.start(), session.attempts


class EngineSession:
    """Owns the engine in use for one bundle and the changes to others. Every engine has passed the proof first."""

    def __init__(
        self,
        bundle: Bundle,
        engine: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        background: bool = False,
    ) -> None:
        """`threads` = 0 uses every core that this process may use.

        With `background`, an engine that must be built first is built in the background: another one serves until then,
        and `candidate` offers the better one. It is waited for only if there is no other engine.
        """
        if engine not in engine_names():
            raise EngineError(f"there is no engine '{engine}': choose one of {', '.join(engine_names())}")
        if precision not in PRECISIONS:
            raise EngineError(f"there is no precision '{precision}': choose one of {', '.join(PRECISIONS)}")
        self.bundle = bundle
        self.attempts: list[EngineAttempt] = []
        self.first_choice = True  # whether the engine in use is the one that `start` chose, or a better one
        self._wanted = engine
        self._precision = precision
        self._threads = threads or len(os.sched_getaffinity(0))
        self._background = background
        self._upgrade: Upgrade | None = None
        self._candidate: tuple[Runtime, Engine] | None = None
        self._ladder = self._rungs()
        self._engine: Engine | None = None
        self._rung: tuple[Runtime, str] | None = None
        self._renewed: float | None = None  # when the engine in use was reloaded

    @property
    def engine(self) -> Engine:
        """The engine in use, from `start` on."""
        assert self._engine is not None
        return self._engine

    @property
    def passed_over(self) -> tuple[str, ...]:
        return tuple(str(attempt) for attempt in self.attempts if attempt.fault)

    def start(self) -> Engine:
        """Start with the first engine that reproduces the bundle's proof; EngineError if none does."""
        return self._next()

    def replace(self, fault: str) -> Engine:
        """Replace an engine that failed: first reload the same one, after that take the next one in the order."""
        assert self._rung is not None
        before = engine_title(self.engine)
        runtime, precision = self._rung
        self._pass_over(runtime, precision, fault)
        engine = None
        if self._renewed is None or time.monotonic() - self._renewed > RETRY_AFTER:
            self._renewed = time.monotonic()
            engine = self._try(runtime, precision)
        engine = self._engine = engine or self._next()
        self.first_choice = self.first_choice and engine_title(engine) == before
        return engine

    def candidate(self) -> Engine | None:
        """A better engine than the one in use, if there is one. `adopt` puts it in use after it has served a frame."""
        if self._upgrade and self._upgrade.done():
            upgrade, self._upgrade, self._background = self._upgrade, None, False
            self.attempts += upgrade.attempts
            if upgrade.engine:
                self._candidate = upgrade.runtime, upgrade.engine
        return self._candidate[1] if self._candidate else None

    def adopt(self) -> None:
        """Use the candidate, which has served a frame, and release the engine before it."""
        assert self._candidate is not None
        runtime, engine = self._candidate
        self._candidate = None
        self._engine, self._rung, self._renewed = engine, (runtime, engine.precision), None
        self.first_choice = True
        # If it fails later, the engines that served before it are next.
        self._ladder = (rung for rung in self._rungs() if rung[0] is not runtime)

    def reject(self, fault: str) -> None:
        """Release the candidate, which could not serve; the engine in use stays."""
        assert self._candidate is not None
        runtime, engine = self._candidate
        self._candidate = None
        self._pass_over(runtime, engine.precision, fault)

    def building(self) -> str:
        """The progress of the better engine in words; empty if none is being built."""
        return self._upgrade.progress() if self._upgrade else ""

    def close(self) -> None:
        """Stop the build in progress."""
        if self._upgrade:
            self._upgrade.cancel()

    def _next(self) -> Engine:
        """The next engine in the order that reproduces the bundle's proof."""
        for runtime, precision in self._ladder:
            engine = self._try(runtime, precision)
            if engine:
                self._engine, self._rung, self._renewed = engine, (runtime, precision), None
                return engine
        if self._upgrade:
            self._upgrade.wait()
        if self.candidate():
            self.adopt()
            return self.engine
        raise EngineError(f"no engine can run {self.bundle.path}: {'; '.join(self.passed_over)}")

    def _rungs(self) -> Iterator[tuple[Runtime, str]]:
        for runtime in runtimes():
            if self._wanted not in ("auto", runtime.name):
                continue
            try:
                offered = runtime.precisions()
            except Exception as error:  # not installed, or broken in any way
                self.attempts.append(EngineAttempt(runtime.name, self._precision, None, one_line(error), absent=True))
                continue
            if self._precision not in ("auto", *offered):
                fault = f"this machine does not offer it, only {', '.join(offered)}"
                self.attempts.append(EngineAttempt(runtime.name, self._precision, None, fault))
            wanted = [precision for precision in offered if self._precision in ("auto", precision)]
            try:
                is_ready = not (wanted and self._background) or self._is_ready(runtime, wanted[0])
            except Exception as error:  # the cache of built engines may be unreadable
                self._pass_over(runtime, self._precision, one_line(error))
                continue
            if is_ready:
                yield from ((runtime, precision) for precision in wanted)
            else:
                self._upgrade = Upgrade(self.bundle, runtime, wanted, self._threads)

    def _is_ready(self, runtime: Runtime, precision: str) -> bool:
        """Whether loading it takes seconds, not minutes."""
        return runtime.ready is None or runtime.ready(self.bundle, precision)

    def _try(self, runtime: Runtime, precision: str) -> Engine | None:
        engine, attempt = try_engine(runtime, self.bundle, precision, self._threads)
        self.attempts.append(attempt)
        return engine

    def _pass_over(self, runtime: Runtime, precision: str, fault: str) -> None:
        fault = fault.removeprefix(f"{runtime.name} {precision}: ")
        self.attempts.append(EngineAttempt(runtime.name, precision, None, fault))


def engine_title(engine: Engine) -> str:
    """Name, precision and version of an engine, for messages."""
    return f"{engine.name} {engine.precision} ({engine.version})"
