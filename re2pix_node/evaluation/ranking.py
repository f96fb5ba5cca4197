"""Finds the best, median and worst clips by the forecast's gain over copying at the longest horizon."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from re2pix_node.common.metrics import PSEUDO, TRUE, mean_iou, scores
from re2pix_node.evaluation.rows import COPY, FORECAST
from re2pix_node.evaluation.scoring import ClipTally

BY_MIOU = "mIoU of the forecast minus mIoU of copying"
BY_FEATURES = "SmoothL1 of copying minus SmoothL1 of the forecast"


def ranking(clips: Sequence[ClipTally], reference: str) -> dict[str, Any]:
    """The gain of each clip, best first, and the places of the clips to show."""
    kind = {"true": TRUE, "pseudo": PSEUDO}[reference]
    by = BY_MIOU if all(np.isfinite(_miou_gain(clip, kind)) for clip in clips) else BY_FEATURES
    gain_of = _miou_gain if by == BY_MIOU else _feature_gain
    order = sorted(((clip.name, gain_of(clip, kind)) for clip in clips), key=lambda each: -each[1])
    places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    if len(order) < 3:
        del places["median"]
    if len(order) < 2:
        places = {"only": 0}
    return {
        "by": by,
        "clips": [{"name": name, "gain": gain} for name, gain in order],
        "shown": {word: order[place][0] for word, place in places.items()},
    }


def _miou_gain(clip: ClipTally, reference: int) -> float:
    forecast, copy = (mean_iou(clip.horizons[-1][row].confusion[reference].sum(axis=0)) for row in (FORECAST, COPY))
    return float(forecast - copy)


def _feature_gain(clip: ClipTally, reference: int) -> float:
    none_moves = np.zeros(clip.now.confusion.shape[-2], bool)
    forecast, copy = (scores(clip.horizons[-1][row], reference, none_moves)["smooth_l1"] for row in (FORECAST, COPY))
    return float(copy - forecast)
