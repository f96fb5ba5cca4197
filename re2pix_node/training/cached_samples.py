"""Training samples from the cache, chosen only by seed and step: a resumed run sees the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from re2pix_node.bundle.manifest import UNLABELLED, TimeSpec
from re2pix_node.errors import TrainingError
from re2pix_node.footage.label_space import LabelSpace, shared_classes
from re2pix_node.training.feature_cache import CachedClip
from re2pix_node.training.moments import moments
from re2pix_node.training.run_file import DataEntry

Chosen = list[tuple[int, int]]  # clip, and number of the sample in it
TRAIN, VAL = 0, 1  # streams of random numbers


@dataclass(frozen=True)
class Draw:
    """Chooses samples of clips with the probabilities given by the entries' weights."""

    counts: NDArray[np.int64]  # samples of each clip
    weights: NDArray[np.float64]  # weight of each clip's samples
    seed: int

    def random(self, step: int, batch: int) -> Chosen:
        """The samples of a step."""
        rng = np.random.default_rng([self.seed, TRAIN, step])
        ends = np.cumsum(self.counts * self.weights)
        clips = np.searchsorted(ends, rng.random(batch) * ends[-1], side="right").clip(max=len(ends) - 1)
        numbers = np.floor(rng.random(batch) * self.counts[clips]).astype(np.int64)
        return list(zip(clips.tolist(), numbers.tolist(), strict=True))

    def spread(self, count: int) -> Chosen:
        """Up to this many samples, evenly over all clips: always the same."""
        total = int(self.counts.sum())
        ends = np.cumsum(self.counts)
        picks = np.unique(((np.arange(count) + 0.5) * total / count).astype(np.int64))
        clips = np.searchsorted(ends, picks, side="right")
        return [
            (int(clip), int(pick - ends[clip] + self.counts[clip])) for clip, pick in zip(clips, picks, strict=True)
        ]


class ForecastSamples:
    """Contexts with their futures: fp16 [n, T + K, h, w, channels]."""

    def __init__(
        self, entries: Sequence[DataEntry], clips: Sequence[Sequence[CachedClip]], time: TimeSpec, seed: int
    ) -> None:
        self.clips = [clip for of_entry in clips for clip in of_entry]
        self._moments = [moments(clip.stamps, time) for clip in self.clips]
        if not sum(map(len, self._moments)):
            raise TrainingError(
                f"{', '.join(entry.path for entry in entries)}: has no {time.context} frames {time.stride_min:g} to "
                f"{time.stride_max:g} s apart with {time.horizons[-1]} more after them: correct time, or use other data"
            )
        self.draw = _draw(entries, clips, [len(found) for found in self._moments], seed)

    def batch(self, chosen: Chosen) -> Tensor:
        samples = [self.clips[clip].features[self._moments[clip][number]] for clip, number in chosen]
        return torch.from_numpy(np.stack(samples))

    def labels(self, place: tuple[int, int], space: LabelSpace) -> list[NDArray[np.uint8] | None]:
        """For every frame of a sample: dense classes [H', W'], 255 = ignore, or None without labels."""
        clip = self.clips[place[0]]
        table, known = _dense(clip, space), {int(frame): row for row, frame in enumerate(clip.labelled)}
        rows = [known.get(int(frame)) for frame in self._moments[place[0]][place[1]]]
        return [None if row is None else table[clip.labels[row]] for row in rows]


class LabelledSamples:
    """Single frames with labels: fp16 [n, h, w, channels], and dense classes i64 [n, H', W'], 255 = ignore."""

    def __init__(
        self, entries: Sequence[DataEntry], clips: Sequence[Sequence[CachedClip]], space: LabelSpace, seed: int
    ) -> None:
        self.clips = [clip for of_entry in clips for clip in of_entry]
        self._tables = [_dense(clip, space) for clip in self.clips]
        counts = [len(clip.labelled) for clip in self.clips]
        if not sum(counts):
            raise TrainingError(f"{', '.join(entry.path for entry in entries)}: has no labels: see docs/data.md")
        self.draw = _draw(entries, clips, counts, seed)

    def batch(self, chosen: Chosen) -> tuple[Tensor, Tensor]:
        features = [self.clips[clip].features[self.clips[clip].labelled[number]] for clip, number in chosen]
        labels = [self._tables[clip][self.clips[clip].labels[number]] for clip, number in chosen]
        return torch.from_numpy(np.stack(features)), torch.from_numpy(np.stack(labels)).long()


def _draw(
    entries: Sequence[DataEntry], clips: Sequence[Sequence[CachedClip]], counts: Sequence[int], seed: int
) -> Draw:
    weights = [entry.weight for entry, of_entry in zip(entries, clips, strict=True) for _ in of_entry]
    return Draw(np.array(counts, np.int64), np.array(weights), seed)


def _dense(clip: CachedClip, space: LabelSpace) -> NDArray[np.uint8]:
    """Class number in the space by class id of the clip; ids without a class in the space are ignored."""
    table = np.full(256, UNLABELLED, np.uint8)
    if not len(clip.labelled):
        return table
    number = {label: i for i, label in enumerate(space.ids)}
    if clip.space == space:
        pairs = [(label, number[label]) for label in space.ids]
    else:
        shared = shared_classes(clip.space, space, clip.groups).groups
        # A group of several classes of the model does not determine the class of a pixel.
        pairs = [
            (label, number[group.bundle[0]]) for group in shared if len(group.bundle) == 1 for label in group.dataset
        ]
    for label, dense in pairs:
        table[label] = dense
    return table


def common_space(clips: Sequence[CachedClip]) -> LabelSpace:
    """The classes of all labelled clips; TrainingError if they differ."""
    labelled = [clip for clip in clips if len(clip.labelled)]
    for clip in labelled:
        if clip.space != labelled[0].space:
            raise TrainingError(
                f"head.labels: data: {labelled[0].name} and {clip.name} have different classes: give both the same "
                "in dataset.yaml"
            )
    if not labelled:
        raise TrainingError("head.labels: data: no footage of data.train has labels: see docs/data.md")
    return labelled[0].space
