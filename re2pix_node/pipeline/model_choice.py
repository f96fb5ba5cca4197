"""Which model is run, and how: what most commands let their user choose."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelChoice:
    """A bundle, and what it is run with."""

    bundle: Path
    engine: str
    precision: str
    threads: int
    fit: str | None
