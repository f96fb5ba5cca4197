"""Proves an engine: it must reproduce the bundle's reference outputs on this machine before it is used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import OptionalOutput, ProofSpec
from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.base import Engine


@dataclass(frozen=True)
class Proof:
    """The differences of an engine from the reference, the worst of all graphs, and those out of bounds."""

    relative_l2: float
    cosine: float
    agreement: float
    confidence: float
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        return (
            f"features relative L2 {self.relative_l2:.2g}, cosine {self.cosine:.6f}; "
            f"labels agree {self.agreement:.3%}; confidence off by {self.confidence:.2g}"
        )


def prove(engine: Engine, bundle: Bundle) -> Proof:
    """Run every graph on the proof's inputs and compare the outputs."""
    reference = bundle.proof()
    context = [engine.upload(reference[f"forecast.context_{i}"]) for i in range(bundle.manifest.time.context)]
    outputs = engine.forecast(context, reference.get("forecast.noise"))
    found = {
        "encode.features": engine.fetch(engine.encode(reference["encode.frame"])),
        "forecast.features": outputs.features,
        "forecast.labels": outputs.labels,
        "forecast.confidence": outputs.confidence,
        **{f"forecast.{name}": array for name, array in outputs.optional.items()},
    }
    return compare(found, reference, bundle.manifest.proof, bundle.manifest.outputs)


def compare(
    found: Mapping[str, NDArray[Any]],
    reference: Mapping[str, NDArray[Any]],
    bounds: ProofSpec,
    optional: Sequence[OptionalOutput] = (),
) -> Proof:
    """`found` has all features and optional outputs; `reference` has every n-th of them, as `bounds` says."""
    features = [
        _feature_figures(found[name], reference[name], bounds.every)
        for name in ("encode.features", "forecast.features")
    ]
    relative_l2 = max(figures[0] for figures in features)
    cosine = min(figures[1] for figures in features)
    agreement = float(np.mean(found["forecast.labels"] == reference["forecast.labels"]))
    difference = found["forecast.confidence"].astype(np.float64) - reference["forecast.confidence"]
    confidence = float(np.abs(difference).mean()) / 255
    faults = []
    # Written so that NaN fails every comparison.
    if not relative_l2 <= bounds.relative_l2:
        faults.append(f"features' relative L2 {relative_l2:.2g} exceeds {bounds.relative_l2:g}")
    if not cosine >= bounds.cosine:
        faults.append(f"features' cosine {cosine:.6f} is below {bounds.cosine:g}")
    if not agreement >= bounds.agreement:
        faults.append(f"only {agreement:.3%} of labels agree, {bounds.agreement:.3%} are needed")
    if not confidence <= bounds.confidence:
        faults.append(f"confidence is off by {confidence:.2g}, more than {bounds.confidence:g}")
    for output in optional:
        name = f"forecast.{output.name}"
        apart, _ = _feature_figures(found[name], reference[name], bounds.every)
        if not apart <= output.relative_l2:
            faults.append(f"{output.name}'s relative L2 {apart:.2g} exceeds {output.relative_l2:g}")
    return Proof(relative_l2, cosine, agreement, confidence, tuple(faults))


def _feature_figures(found: NDArray[Any], reference: NDArray[Any], every: int) -> tuple[float, float]:
    """Relative L2 and cosine of the two, as vectors; the worst possible values for NaN or infinity in either."""
    if not (np.isfinite(found).all() and np.isfinite(reference).all()):
        return float("inf"), -1.0
    a, b = found.astype(np.float64).ravel()[::every], reference.astype(np.float64).ravel()
    length = float(np.linalg.norm(b)) or 1.0
    return float(np.linalg.norm(a - b)) / length, float(a @ b) / (float(np.linalg.norm(a)) * length or 1.0)
