"""Engines run a bundle's graphs; `open_engine` gives one that has proved itself."""

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.attempt import EngineAttempt, try_engine
from re2pix_node.engines.base import Engine
from re2pix_node.engines.supply import ENGINES, PRECISIONS, RUNTIMES, EngineSupply

__all__ = ["ENGINES", "PRECISIONS", "RUNTIMES", "EngineAttempt", "EngineSupply", "open_engine", "try_engine"]


def open_engine(
    bundle: Bundle, engine: str = "auto", precision: str = "auto", threads: int = 0
) -> tuple[Engine, list[EngineAttempt]]:
    """The first engine that reproduces the bundle's proof, and all that were tried on the way to it."""
    supply = EngineSupply(bundle, engine, precision, threads)
    return supply.next(), supply.attempts
