"""From counts to the result: plain values for JSON, from which the table and the report are made."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import NANOSECONDS, Manifest
from re2pix_node.common.metrics import (
    BETA,
    BINS,
    PSEUDO,
    REFERENCES,
    TRUE,
    Tally,
    class_scores,
    reliability,
    scores,
    stack,
    weighted,
)
from re2pix_node.evaluation.bootstrap import FEWEST, LEVEL, RESAMPLES, SEED, figure, resampling
from re2pix_node.evaluation.classes import Classes
from re2pix_node.evaluation.rows import COPY, FORECAST, MEANING, ORACLE
from re2pix_node.evaluation.scoring import ClipTally
from re2pix_node.evaluation.verdict import VERDICT_SCORES, judged, verdict

SCHEMA = 1
# Scores for which the gap between copying and the oracle is meaningful.
GAPS = (
    "smooth_l1",
    "cosine",
    "accuracy",
    "miou",
    "moving_accuracy",
    "moving_miou",
    "changed_accuracy",
    "changed_miou",
)
LOWER_IS_BETTER = ("smooth_l1", "ece")
Values = dict[str, NDArray[Any]]


def result_of(clips: Sequence[ClipTally], manifest: Manifest, classes: Classes) -> dict[str, Any]:
    """All measured values; the command adds how they were measured."""
    reference = TRUE if any(clip.labelled for clip in clips) else PSEUDO
    weights = resampling(len(clips))
    horizons = [_horizon(clips, k, manifest, classes, reference, weights) for k in range(len(clips[0].horizons))]
    return {
        "schema": SCHEMA,
        "reference": REFERENCES[reference],
        "beta": BETA,
        "bins": BINS,
        "samples": sum(clip.samples for clip in clips),
        "labelled_samples": sum(clip.labelled for clip in clips),
        "interval": _interval(len(clips)),
        "head_agreement": min(clip.head_agreement for clip in clips),
        "row_meaning": {row: MEANING[row] for row in horizons[0]["rows"]},
        "now": _now(clips, classes, reference, weights),
        "horizons": horizons,
        "clips": [_clip(clip, classes, reference) for clip in clips],
        "notes": _notes(clips, manifest, classes, reference),
    }


def _interval(clips: int) -> dict[str, Any] | None:
    if clips < FEWEST:
        return None
    kind = "percentile bootstrap over clips"
    return {"kind": kind, "level": LEVEL, "resamples": RESAMPLES, "seed": SEED, "clips": clips}


def _horizon(
    clips: Sequence[ClipTally],
    k: int,
    manifest: Manifest,
    classes: Classes,
    reference: int,
    weights: NDArray[Any],
) -> dict[str, Any]:
    sums = {row: weighted(stack([c.horizons[k][row] for c in clips]), weights) for row in clips[0].horizons[k]}
    values = {row: scores(tally, reference, classes.moving) for row, tally in sums.items()}
    steps = manifest.time.horizons[k]
    seconds = steps * np.concatenate([clip.spacings for clip in clips]) / NANOSECONDS
    rows = {row: _row(sums[row], values, row, classes, reference) for row in sums}
    compared = {
        row: judged({name: values[FORECAST][name] - values[row][name] for name in VERDICT_SCORES})
        for row in rows
        if row not in (FORECAST, ORACLE)
    }
    when = {"mean": float(seconds.mean()), "min": float(seconds.min()), "max": float(seconds.max())}
    return {
        "steps": steps,
        "seconds": when,
        "rows": rows,
        "against": compared,
        "verdict": [verdict(row, against, when["mean"]) for row, against in compared.items()],
    }


def _row(tally: Tally, values: dict[str, Values], row: str, classes: Classes, reference: int) -> dict[str, Any]:
    gaps = {}
    if row not in (COPY, ORACLE):
        gaps = {name: figure(gap_closed(values, row, name)) for name in GAPS}
    return {
        **{name: figure(value) for name, value in values[row].items()},
        "gap_closed": gaps,
        "classes": _classes(tally, classes, reference),
        "reliability": _curve(tally, reference),
    }


def gap_closed(values: dict[str, Values], row: str, name: str) -> NDArray[Any]:
    """(row - copy) / (oracle - copy), NaN where the oracle is no better than copying: there is no gap to close."""
    gap = values[ORACLE][name] - values[COPY][name]
    open_gap = gap < -1e-9 if name in LOWER_IS_BETTER else gap > 1e-9
    closed = values[row][name] - values[COPY][name]
    share: NDArray[Any] = np.divide(closed, gap, out=np.full(gap.shape, np.nan), where=open_gap)
    return share


def _classes(tally: Tally, classes: Classes, reference: int) -> dict[str, Any]:
    by_class = class_scores(tally, reference)
    pixels = tally.confusion[0, reference].sum(axis=(0, 2))
    return {
        name: {
            "pixels": int(pixels[i]),
            "moving": bool(classes.moving[i]),
            **{score: figure(value[:, i]) for score, value in by_class.items()},
        }
        for i, name in enumerate(classes.names)
    }


def _curve(tally: Tally, reference: int) -> list[dict[str, float]]:
    pixels, confidence, right = reliability(tally.confidence[0, reference])
    share = pixels / max(pixels.sum(), 1)
    return [
        {"share": float(share[i]), "confidence": float(confidence[i]), "accuracy": float(right[i])}
        for i in np.flatnonzero(pixels)
    ]


def _now(clips: Sequence[ClipTally], classes: Classes, reference: int, weights: NDArray[Any]) -> dict[str, Any]:
    flicker = weights @ np.stack([clip.flicker[reference] for clip in clips])
    counted = np.where(flicker[:, 1] > 0, flicker[:, 1], np.nan)
    found: dict[str, Any] = {"flicker": figure(flicker[:, 0] / counted)}
    if reference == TRUE:  # compared with its own labels it is right by definition
        tally = weighted(stack([clip.now for clip in clips]), weights)
        values = scores(tally, reference, classes.moving)
        wanted = ("accuracy", "miou", "moving_miou", "ece")
        found |= {name: figure(values[name]) for name in wanted}
    return found


def _clip(clip: ClipTally, classes: Classes, reference: int) -> dict[str, Any]:
    """The values of one clip, for each horizon and row, without intervals."""
    horizons = []
    for rows in clip.horizons:
        points = {row: scores(tally, reference, classes.moving) for row, tally in rows.items()}
        horizons.append({row: {name: _plain(value) for name, value in each.items()} for row, each in points.items()})
    return {"name": clip.name, "samples": clip.samples, "labelled_samples": clip.labelled, "horizons": horizons}


def _plain(value: NDArray[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None


def _notes(clips: Sequence[ClipTally], manifest: Manifest, classes: Classes, reference: int) -> list[str]:
    notes = []
    if reference == PSEUDO:
        notes.append(
            "There are no true labels: labels are compared with the head's own output on the true future frame "
            "(the oracle, which is therefore always right; copying is always wrong where that output changes)."
        )
    elif any(clip.labelled < clip.samples for clip in clips):
        notes.append("Samples without true labels count for features and consistency only.")
    counting = sum(clip.labelled > 0 for clip in clips) if reference == TRUE else len(clips)
    if len(clips) < FEWEST:
        notes.append(f"Fewer than {FEWEST} clips, so no intervals: how well the scores hold for others is not known.")
    elif counting < 10:
        labelled = f" with {counting} of them labelled" if counting < len(clips) else ""
        notes.append(f"Intervals from {len(clips)} clips{labelled} are rough.")
    agreement = min(clip.head_agreement for clip in clips)
    if agreement < 0.999:
        notes.append(
            f"The head's output on a frame depends on the frames before it (agreement {agreement:.3f}): "
            "oracle, ridge and warp-head use the forecast's own context and are approximate."
        )
    if manifest.samples > 1:
        notes.append(f"The bundle gives {manifest.samples} samples of each forecast; the first one is scored.")
    if all(not clip.horizons[k][COPY].revisions[1] for clip in clips for k in range(len(clip.horizons))):
        notes.append("No two forecasts predict the same moment: consistency needs a smaller --every.")
    return notes + _unshared(clips, manifest, classes)


def _unshared(clips: Sequence[ClipTally], manifest: Manifest, classes: Classes) -> list[str]:
    notes = []
    unshared, labelled = np.sum([clip.unshared for clip in clips], axis=0)
    if unshared:
        notes.append(f"{unshared / labelled:.1%} of the true labels are in no compared class and are ignored.")
    alone = [c.name for c in manifest.labels.classes if classes.of_bundle[c.id] == classes.count]
    if alone:
        notes.append(f"In no compared class, and so wrong wherever the bundle predicts them: {', '.join(alone)}.")
    return notes
