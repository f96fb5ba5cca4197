"""Runs all rows on clips and counts their results, clip by clip."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import NANOSECONDS, UNLABELLED
from re2pix_node.common.metrics import PSEUDO, TRUE, Tally, add_features, add_labels, empty_tally
from re2pix_node.evaluation.classes import Classes, Table
from re2pix_node.evaluation.model import EvaluatedModel, Read, fit_labels
from re2pix_node.evaluation.rows import COPY, FORECAST, ORACLE, Forecasters, Said, SeenScene, see_scene
from re2pix_node.evaluation.temporal import Flicker, Revisions

if TYPE_CHECKING:
    from re2pix_node.footage.clips import Sample

Array = NDArray[Any]


@dataclass(frozen=True)
class ScoredDrive:
    """A clip to score on. `samples(n)` yields every n-th of its moments; each call starts again."""

    name: str
    samples: Callable[[int], Iterator["Sample"]]
    of_labels: Table  # map from the values of its label pictures to the classes


@dataclass(frozen=True)
class Snapshot:
    """One moment of a clip for the report, at the longest horizon; masks hold dense classes."""

    picture: NDArray[np.uint8]
    seconds: float
    true: Array
    masks: dict[str, Array]  # of copy, forecast and oracle
    change: float  # share of pixels whose class changes; the moment with the most change is kept
    reference: int


@dataclass
class ClipTally:
    """All counts of one clip."""

    name: str
    horizons: list[dict[str, Tally]]
    now: Tally  # the segmentation of now; its features are not counted
    flicker: Array  # [reference, 2]: pixels that changed their label without cause, and all pixels
    unshared: Array  # [2]: pixels of true masks whose value is in no compared class, and all labelled pixels
    samples: int = 0
    labelled: int = 0  # samples with true labels for at least one horizon
    spacings: list[int] = field(default_factory=list)
    head_agreement: float = 1.0  # agreement of `EvaluatedModel.read` with the current labels
    snapshot: Snapshot | None = None


def score_clip(drive: ScoredDrive, every: int, model: EvaluatedModel, rows: Forecasters, classes: Classes) -> ClipTally:
    """Count row by row and horizon by horizon; `samples` is 0 if the clip is too short for one."""
    model.forget()
    counter = _Counter(drive, model, classes)
    for sample in drive.samples(every):
        scene = see_scene(model, sample)
        now, horizons = rows.say(scene)
        if counter.clip.samples == 0:
            counter.clip.head_agreement = _head_agreement(model, scene, now)
        counter.count(sample, scene, now, horizons)
    return counter.clip


def _head_agreement(model: EvaluatedModel, scene: SeenScene, now: Read) -> float:
    """With only the newest frame as context, the head must still give the same labels for it."""
    alone = model.read(scene.now.features, scene.now.carried, [scene.now.held] * len(scene.context))
    return float((alone.labels == now.labels).mean())


class _Counter:
    def __init__(self, drive: ScoredDrive, model: EvaluatedModel, classes: Classes) -> None:
        manifest = model.manifest
        self._masks = manifest.labels
        self._steps = manifest.time.horizons
        self._classes = classes
        self._of_labels = drive.of_labels
        self._revisions = Revisions(round(manifest.time.jitter * NANOSECONDS))
        self._flicker = {reference: Flicker() for reference in (TRUE, PSEUDO)}
        self.clip = ClipTally(
            drive.name,
            horizons=[{} for _ in self._steps],
            now=empty_tally(self._classes.count),
            flicker=np.zeros((2, 2)),
            unshared=np.zeros(2),
        )

    def count(self, sample: "Sample", scene: SeenScene, now: Read, horizons: list[dict[str, Said]]) -> None:
        seen_now = self._dense(now.labels)
        true_now = self._true(sample.now_labels, scene)
        self.clip.samples += 1
        self.clip.spacings.append(sample.spacing)
        self.clip.labelled += any(labels is not None for labels in sample.future_labels)
        self._count_now(now, seen_now, true_now)
        for k, said in enumerate(horizons):
            true = self._true(sample.future_labels[k], scene)
            if true is not None:
                reference, before = TRUE, true_now
            else:
                reference, before, true = PSEUDO, seen_now, self._dense(said[ORACLE].read.labels)
            masks = {row: self._dense(each.read.labels) for row, each in said.items()}
            for row, each in said.items():
                tally = self.clip.horizons[k].setdefault(row, empty_tally(self._classes.count))
                add_features(tally, each.features, scene.future[k].features)
                add_labels(tally, reference, masks[row], each.read.confidence, true, before)
            if k == len(horizons) - 1:
                seconds = self._steps[k] * sample.spacing / NANOSECONDS
                self._keep_snapshot(scene, seconds, reference, true, before, masks)
        self._count_revisions(sample, now, horizons)

    def _count_now(self, now: Read, seen_now: Array, true_now: Array | None) -> None:
        if true_now is not None:
            add_labels(self.clip.now, TRUE, seen_now, now.confidence, true_now, None)
            self.clip.flicker[TRUE] += self._flicker[TRUE].next(seen_now, true_now, self._classes.count)
        self.clip.flicker[PSEUDO] += self._flicker[PSEUDO].next(seen_now, None, self._classes.count)

    def _count_revisions(self, sample: "Sample", now: Read, horizons: list[dict[str, Said]]) -> None:
        stamp = sample.context_stamps[-1]
        self._revisions.forget(before=stamp)
        for row in horizons[0]:
            moments = [(stamp, now.labels)]
            for steps, said in zip(self._steps, horizons, strict=True):
                moments.append((stamp + steps * sample.spacing, said[row].read.labels))
            for k, agreement in self._revisions.next(row, moments):
                self.clip.horizons[k][row].revisions += agreement

    def _keep_snapshot(
        self,
        scene: SeenScene,
        seconds: float,
        reference: int,
        true: Array,
        before: Array | None,
        masks: dict[str, Array],
    ) -> None:
        change = 0.0
        if before is not None:
            both = (true < self._classes.count) & (before < self._classes.count)
            change = float(((true != before) & both).mean())
        kept = self.clip.snapshot
        if kept is None or (reference, -change) < (kept.reference, -kept.change):
            shown = {row: masks[row] for row in (COPY, FORECAST, ORACLE)}
            self.clip.snapshot = Snapshot(scene.now.picture, seconds, true, shown, change, reference)

    def _dense(self, labels: Array) -> Array:
        return self._classes.of_bundle[labels]

    def _true(self, labels: Array | None, scene: SeenScene) -> Array | None:
        if labels is None:
            return None
        fitted = fit_labels(labels, scene.now.region, self._masks.height, self._masks.width)
        true = self._of_labels[fitted]
        labelled = fitted != UNLABELLED
        self.clip.unshared += (labelled & (true == self._classes.count)).sum(), labelled.sum()
        return true
