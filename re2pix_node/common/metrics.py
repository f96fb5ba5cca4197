"""Counts that add up over frames and clips, and the scores computed from them.

Everything is counted in NumPy, so that scoring needs no PyTorch; the tests compare each score with torchmetrics.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

BETA = 0.1  # where SmoothL1 changes from squared to absolute
LEVELS = 256  # levels of confidence
BINS = 15  # bins of the reliability curve
TRUE, PSEUDO = 0, 1  # reference of the labels: the truth, or the model's own labels of the true future frame
REFERENCES = ("true", "pseudo")

Array = NDArray[Any]


@dataclass
class Tally:
    """The counts of one row at one horizon. Leading axes are clips or resamples of clips."""

    features: Array  # [3]: SmoothL1 and cosine summed over samples, and the number of samples
    confusion: Array  # [reference, unchanged or changed or unknown, true class, predicted class or another]
    confidence: Array  # [reference, level, wrong or right]
    revisions: Array  # [2]: pixels on which two forecasts of one moment agree, and all compared pixels


def empty_tally(classes: int) -> Tally:
    return Tally(
        np.zeros(3), np.zeros((2, 3, classes, classes + 1)), np.zeros((2, LEVELS, 2)), np.zeros(2)
    )  # float64 counts whole numbers exactly up to 2^53


def stack(tallies: list[Tally]) -> Tally:
    return Tally(*(np.stack([getattr(tally, field.name) for tally in tallies]) for field in fields(Tally)))


def weighted(stacked: Tally, weights: Array) -> Tally:
    """Sums over the clips of `stacked`, one for each line of `weights` [resamples, clips]."""
    return Tally(*(np.tensordot(weights, getattr(stacked, field.name), axes=1) for field in fields(Tally)))


def add_features(tally: Tally, said: Array, true: Array) -> None:
    tally.features += smooth_l1(said, true), cosine(said, true), 1


def smooth_l1(said: Array, true: Array) -> float:
    apart = np.abs(said.astype(np.float64) - true)
    return float(np.where(apart < BETA, apart**2 / (2 * BETA), apart - BETA / 2).mean())


def cosine(said: Array, true: Array) -> float:
    """Mean over cells of the cosine between the predicted and the true vectors."""
    said, true = said.astype(np.float64), true.astype(np.float64)
    lengths = np.linalg.norm(said, axis=-1) * np.linalg.norm(true, axis=-1)
    return float(((said * true).sum(axis=-1) / np.maximum(lengths, 1e-12)).mean())


def add_labels(tally: Tally, reference: int, said: Array, confidence: Array, true: Array, now: Array | None) -> None:
    """Count one mask. `said`, `true` and `now` hold dense classes; pixels where `true` is none of them do not count.

    `now` is the true mask of the newest frame: a pixel has changed where it differs from `true`.
    """
    classes = tally.confusion.shape[-2]
    known = true < classes
    change = np.full(true.shape, 2, np.int64)
    if now is not None:
        change = np.where(now < classes, now != true, 2)
    cell = (change * classes + true) * (classes + 1) + said
    size = 3 * classes * (classes + 1)
    tally.confusion[reference] += np.bincount(cell[known], minlength=size).reshape(3, classes, classes + 1)
    level = confidence[known].astype(np.int64) * 2 + (said == true)[known]
    tally.confidence[reference] += np.bincount(level, minlength=2 * LEVELS).reshape(LEVELS, 2)


def scores(tally: Tally, reference: int, moving: NDArray[np.bool_]) -> dict[str, Array]:
    """Every score by name, NaN where nothing was counted. The table and the report show them in this order."""
    by_change = tally.confusion[..., reference, :, :, :]
    everywhere, changed = by_change.sum(axis=-3), by_change[..., 1, :, :]
    return {
        "smooth_l1": _ratio(tally.features[..., 0], tally.features[..., 2]),
        "cosine": _ratio(tally.features[..., 1], tally.features[..., 2]),
        "accuracy": accuracy(everywhere),
        "miou": mean_iou(everywhere),
        "moving_accuracy": accuracy(everywhere, moving),
        "moving_miou": mean_iou(everywhere, moving),
        "changed_accuracy": accuracy(changed),
        "changed_miou": mean_iou(changed),
        "ece": calibration_error(tally.confidence[..., reference, :, :]),
        "consistency": _ratio(tally.revisions[..., 0], tally.revisions[..., 1]),
    }


def class_scores(tally: Tally, reference: int) -> dict[str, Array]:
    """[..., classes]: IoU and accuracy (the share of a class's pixels that was found)."""
    confusion = tally.confusion[..., reference, :, :, :].sum(axis=-3)
    return {"iou": class_iou(confusion), "accuracy": _ratio(_right(confusion), confusion.sum(axis=-1))}


def accuracy(confusion: Array, chosen: NDArray[np.bool_] | None = None) -> Array:
    """Share of correct pixels among those whose true class is one of the chosen classes."""
    right, all_of_class = _right(confusion), confusion.sum(axis=-1)
    if chosen is not None:
        right, all_of_class = right[..., chosen], all_of_class[..., chosen]
    return _ratio(right.sum(axis=-1), all_of_class.sum(axis=-1))


def mean_iou(confusion: Array, chosen: NDArray[np.bool_] | None = None) -> Array:
    """Mean over the chosen classes that occur in the truth or the prediction."""
    iou = class_iou(confusion)
    if chosen is not None:
        iou = iou[..., chosen]
    occurs = np.isfinite(iou)
    return _ratio(np.where(occurs, iou, 0).sum(axis=-1), occurs.sum(axis=-1))


def class_iou(confusion: Array) -> Array:
    right = _right(confusion)
    said = confusion[..., :-1].sum(axis=-2)
    return _ratio(right, confusion.sum(axis=-1) + said - right)


def reliability(confidence: Array) -> tuple[Array, Array, Array]:
    """[..., BINS] each: pixels in a bin of confidence, their mean confidence, and their accuracy."""
    levels = np.arange(LEVELS)
    # In integers: a level on the border of two bins belongs to the upper one, independent of rounding.
    member = (levels * BINS // (LEVELS - 1)).clip(max=BINS - 1)[None] == np.arange(BINS)[:, None]
    wrong, right = confidence[..., 0] @ member.T, confidence[..., 1] @ member.T
    meant = (confidence.sum(axis=-1) * (levels / (LEVELS - 1))) @ member.T
    return wrong + right, _ratio(meant, wrong + right), _ratio(right, wrong + right)


def calibration_error(confidence: Array) -> Array:
    """Expected calibration error: the difference between confidence and accuracy, averaged over pixels."""
    pixels, meant, right = reliability(confidence)
    apart = np.where(pixels > 0, np.abs(meant - right), 0)
    return _ratio((apart * pixels).sum(axis=-1), pixels.sum(axis=-1))


def _right(confusion: Array) -> Array:
    return np.diagonal(confusion[..., :-1], axis1=-2, axis2=-1)


def _ratio(part: Array, whole: Array) -> Array:
    ratio: Array = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
    return ratio
