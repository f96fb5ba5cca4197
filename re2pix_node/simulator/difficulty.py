"""Measures how hard drives are to forecast: how well the current labels predict the later ones.

python -m re2pix_node.simulator.difficulty DRIVE...
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from re2pix_node.footage.cityscapes_classes import IGNORE, NAMES
from re2pix_node.simulator.mesh import Array
from re2pix_node.simulator.reader import read_drive

HORIZONS = (0.18, 0.54)
# The classes of CamVid's scores, in ids of Cityscapes: on CamVid copying gives 0.57 at 0.2 s and 0.44 at 0.6 s.
CAMVID = [[0], [1], [2, 3], [4], [5], [6, 7], [8, 9], [10], [11], [13, 14, 15, 16], [12, 17, 18]]


def copy_last_confusion(labels: list[Array], steps: int) -> Array:
    """Counts (19 true classes x 20 predicted, the last for unlabelled) of copying labels `steps` frames on."""
    counts = np.zeros(19 * 20, np.int64)
    for now, later in zip(labels, labels[steps:], strict=False):
        known = later != IGNORE
        pairs = later[known].astype(int) * 20 + np.minimum(now[known], 19)
        counts += np.bincount(pairs, minlength=19 * 20)
    return counts.reshape(19, 20)


def ious(confusion: Array) -> Array:
    """IoU per class; NaN for a class that does not occur."""
    hits = np.diag(confusion).astype(float)
    union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def grouped(confusion: Array, groups: list[list[int]]) -> Array:
    """The counts with classes merged into groups; unlabelled stays the last column."""
    of = np.zeros((20, len(groups) + 1), np.int64)
    of[19, -1] = 1
    for column, group in enumerate(groups):
        of[group, column] = 1
    merged: Array = of[:19, :-1].T @ confusion @ of
    return merged


def report(paths: Iterable[Path]) -> str:
    """Copy-last mIoU and pixel accuracy over all drives together, and the share of every class."""
    totals = [np.zeros((19, 20), np.int64) for _ in HORIZONS]
    present = np.zeros(19, int)
    count = 0
    for path in paths:
        frames = list(read_drive(path, ("segmentation",)))
        labels = [frame.segmentation for frame in frames]
        period = (frames[-1].stamp - frames[0].stamp) / 1e9 / (len(frames) - 1)
        for total, horizon in zip(totals, HORIZONS, strict=True):
            total += copy_last_confusion(labels, max(round(horizon / period), 1))
        present += np.isin(np.arange(19), np.unique(np.stack(labels[::5])))
        count += 1
    lines = [f"{count} drives"]
    for total, horizon in zip(totals, HORIZONS, strict=True):
        right = np.diag(total[:, :19]).sum() / total.sum()
        every, eleven = np.nanmean(ious(total)), np.nanmean(ious(grouped(total, CAMVID)))
        lines.append(
            f"copy-last at {horizon} s: mIoU {every:.3f} over the classes of Cityscapes that are there, "
            f"{eleven:.3f} over the 11 of CamVid; {100 * right:.1f} % of pixels right"
        )
    shares = totals[0].sum(axis=1) / totals[0].sum()
    lines.append("class           share %  in drives  " + "  ".join(f"IoU {horizon} s" for horizon in HORIZONS))
    for label, name in enumerate(NAMES):
        scores = "  ".join(f"{ious(total)[label]:10.3f}" for total in totals)
        lines.append(f"{name:15} {100 * shares[label]:7.2f}  {present[label]:9d}  {scores}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(Path(argument) for argument in sys.argv[1:]))
