"""Engines run a bundle's graphs; `open_engine` gives one that has proved itself."""

import os
from dataclasses import dataclass

from re2pix_node.bundle import Bundle
from re2pix_node.engines import onnxruntime, openvino
from re2pix_node.engines.base import Engine, Runtime, one_line
from re2pix_node.engines.proof import Proof, prove
from re2pix_node.errors import BundleError, EngineError

# `auto` tries them in this order, the fastest first. The order is fixed, not timed at start-up: two runs on one machine
# must choose the same engine, or a replay would not repeat.
RUNTIMES: tuple[Runtime, ...] = (openvino.RUNTIME, onnxruntime.RUNTIME)
ENGINES = ("auto", *(runtime.name for runtime in RUNTIMES))
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True)
class Attempt:
    """One engine that was tried: taken when `fault` is None, passed over otherwise."""

    engine: str
    precision: str
    proof: Proof | None
    fault: str | None

    def __str__(self) -> str:
        figures = f" ({self.proof})" if self.proof else ""
        return f"{self.engine} {self.precision}: {self.fault or 'proved'}{figures}"


def open_engine(
    bundle: Bundle, engine: str = "auto", precision: str = "auto", threads: int = 0
) -> tuple[Engine, list[Attempt]]:
    """The first engine that reproduces the bundle's proof, and all that were tried on the way to it.

    `threads` = 0 uses every core that this process may run on.
    """
    if engine not in ENGINES:
        raise EngineError(f"there is no engine '{engine}': choose one of {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"there is no precision '{precision}': choose one of {', '.join(PRECISIONS)}")
    threads = threads or len(os.sched_getaffinity(0))
    attempts: list[Attempt] = []
    for runtime in RUNTIMES:
        if engine in ("auto", runtime.name):
            proved = _try_runtime(runtime, bundle, precision, threads, attempts)
            if proved:
                return proved, attempts
    raise EngineError(f"no engine can run {bundle.path}: {'; '.join(map(str, attempts))}")


def _try_runtime(
    runtime: Runtime, bundle: Bundle, precision: str, threads: int, attempts: list[Attempt]
) -> Engine | None:
    try:
        offered = runtime.precisions()
    except Exception as error:  # not installed, or broken in a way of its own
        attempts.append(Attempt(runtime.name, precision, None, one_line(error)))
        return None
    if precision not in ("auto", *offered):
        fault = f"this machine does not offer it, only {', '.join(offered)}"
        attempts.append(Attempt(runtime.name, precision, None, fault))
    for candidate in offered:
        if precision in ("auto", candidate):
            engine, attempt = try_engine(runtime, bundle, candidate, threads)
            attempts.append(attempt)
            if attempt.fault is None:
                return engine
    return None


def try_engine(runtime: Runtime, bundle: Bundle, precision: str, threads: int) -> tuple[Engine | None, Attempt]:
    """Loads and proves one engine. What is wrong with the bundle itself is raised: no other engine would mend it."""
    try:
        engine = runtime.load(bundle, precision, threads)
        proof = prove(engine, bundle)
    except BundleError:
        raise
    except Exception as error:  # whatever a runtime throws must cost that engine and no more
        return None, Attempt(runtime.name, precision, None, one_line(error))
    return engine, Attempt(runtime.name, precision, proof, "; ".join(proof.faults) or None)
