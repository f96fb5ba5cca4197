"""The choice of a model and its engine, which most commands offer."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelChoice:
    """A bundle and the options of its engine."""

    bundle: Path
    engine: str
    precision: str
    threads: int
    fit: str | None
