"""Tries one engine: loads it and proves it."""

from dataclasses import dataclass

from re2pix_node.bundle.reader import Bundle
from re2pix_node.common.wording import one_line
from re2pix_node.engines.base import Engine, Runtime
from re2pix_node.engines.proof import Proof, prove
from re2pix_node.engines.trial import try_apart
from re2pix_node.errors import BundleError


@dataclass(frozen=True)
class EngineAttempt:
    """The result of trying one engine at one precision."""

    engine: str
    precision: str
    proof: Proof | None
    fault: str | None
    absent: bool = False  # the runtime itself is not available here

    def __str__(self) -> str:
        figures = f" ({self.proof})" if self.proof else ""
        return f"{self.engine} {self.precision}: {self.fault or 'proved'}{figures}"


def try_engine(runtime: Runtime, bundle: Bundle, precision: str, threads: int) -> tuple[Engine | None, EngineAttempt]:
    """Load and prove one engine. A fault of the bundle itself is raised, because no other engine would fix it."""
    try:
        try_apart(runtime, bundle, precision, threads, try_engine)
        engine = runtime.load(bundle, precision, threads)
        proof = prove(engine, bundle)
    except BundleError:
        raise
    except Exception as error:  # any error of a runtime must cost only that engine
        fault = one_line(error).removeprefix(f"{runtime.name} {precision}: ")
        return None, EngineAttempt(runtime.name, precision, None, fault)
    if proof.faults:
        return None, EngineAttempt(runtime.name, precision, proof, "; ".join(proof.faults))
    return engine, EngineAttempt(runtime.name, precision, proof, None)
