"""The whole evaluation: fit the ridge, run every row on every clip, and count."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from re2pix_node.errors import Re2pixError
from re2pix_node.evaluation.classes import Classes
from re2pix_node.evaluation.model import EvaluatedModel
from re2pix_node.evaluation.result import result_of
from re2pix_node.evaluation.ridge import RidgeSums, solve
from re2pix_node.evaluation.rows import RIDGE, Forecasters, ridge_sums, see_scene
from re2pix_node.evaluation.scoring import ClipTally, ScoredDrive, score_clip

# The ridge has few weights per channel: every n-th scored moment is enough to fit it.
RIDGE_EVERY = 8
Weights = list[NDArray[Any]]  # of the ridge, for each horizon


class JudgeProgress(Protocol):
    def __call__(self, drives: Sequence[ScoredDrive], doing: str) -> Iterable[ScoredDrive]: ...


def quietly(drives: Sequence[ScoredDrive], doing: str) -> Iterable[ScoredDrive]:
    return drives


def judge(
    model: EvaluatedModel,
    classes: Classes,
    drives: Sequence[ScoredDrive],
    every: int,
    baselines: tuple[str, ...],
    ridge_drives: Sequence[ScoredDrive] = (),
    progress: JudgeProgress = quietly,
) -> tuple[dict[str, Any], list[ClipTally]]:
    """The result, and the counts behind it."""
    ridge, how = _fit_ridge(model, drives, every, ridge_drives, progress) if RIDGE in baselines else ({}, "left out")
    if not ridge:
        baselines = tuple(row for row in baselines if row != RIDGE)
    clips = []
    for drive in progress(drives, "scoring"):
        rows = Forecasters(model, baselines, ridge.get(drive.name))
        clip = score_clip(drive, every, model, rows, classes)
        if clip.samples:
            clips.append(clip)
    if not clips:
        time = model.manifest.time
        span = (time.context - 1 + time.horizons[-1]) * time.stride
        raise Re2pixError(
            f"no clip holds a single sample: each takes {span:.2f} s of footage with frames {time.stride_min:g} to "
            f"{time.stride_max:g} s apart: give longer clips, or faster ones"
        )
    result = result_of(clips, model.manifest, classes)
    result["ridge"] = how
    if len(clips) < len(drives):
        left_out = {drive.name for drive in drives} - {clip.name for clip in clips}
        result["notes"].append(f"Too short or too slow for a sample, and left out: {', '.join(sorted(left_out))}.")
    return result, clips


def _fit_ridge(
    model: EvaluatedModel,
    drives: Sequence[ScoredDrive],
    every: int,
    apart: Sequence[ScoredDrive],
    progress: JudgeProgress,
) -> tuple[dict[str, Weights], str]:
    """The weights for scoring each clip, fitted on other clips; and a description of those."""
    sums = {drive.name: _sums(model, drive, every) for drive in progress(apart or drives, "fitting the ridge")}
    taught = {name: found for name, found in sums.items() if found}
    if apart:
        if not taught:
            raise Re2pixError("--ridge-data holds no clip long enough for a sample: give longer clips")
        weights = _weights(list(taught.values()))
        return {drive.name: weights for drive in drives}, f"fitted on {len(taught)} clips apart"
    if len(taught) < 2:
        return {}, "left out: it needs other clips to learn from (--ridge-data, or more of them)"
    names = list(taught)
    folds = [names[::2], names[1::2]]
    weights_without = [_weights([taught[name] for name in folds[1 - fold]]) for fold in (0, 1)]
    by_name = {name: weights_without[fold] for fold in (0, 1) for name in folds[fold]}
    return by_name, f"cross-fitted in two folds ({len(folds[0])} and {len(folds[1])} clips)"


def _sums(model: EvaluatedModel, drive: ScoredDrive, every: int) -> list[RidgeSums]:
    """The sums of a clip for fitting, for each horizon; empty if it is too short."""
    model.forget()
    total: list[RidgeSums] = []
    for sample in drive.samples(every * RIDGE_EVERY):
        sums = ridge_sums(see_scene(model, sample), model.manifest.time.horizons)
        total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
    return total


def _weights(clips: Sequence[Sequence[RidgeSums]]) -> Weights:
    return [solve(sum(horizon[1:], start=horizon[0])) for horizon in zip(*clips, strict=True)]
