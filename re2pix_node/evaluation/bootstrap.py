"""How sure a score is: percentile intervals over resampled clips.

Frames of one clip resemble one another, so clips are resampled and never frames.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
# Resamples of few clips are too much alike: of normal values "95%" holds the mean in 75% of cases with 3, 83% with 5.
# 6 are the fewest of which even the smallest and the largest enclose the median with 95%: all lie on one side of it
# once in 2**5 = 32 times. (The bootstrap's holds in 86% with 6, in 90% with 10.)
FEWEST = 6


def resampling(clips: int) -> NDArray[Any]:
    """[1 + RESAMPLES, clips]: how often each clip counts; the first line counts each once: the score itself.

    Below FEWEST clips there is that line alone.
    """
    once = np.ones((1, clips))
    if clips < FEWEST:
        return once
    rng = np.random.default_rng(SEED)
    return np.vstack([once, rng.multinomial(clips, np.full(clips, 1 / clips), RESAMPLES)])


def figure(values: NDArray[Any]) -> dict[str, float | None]:
    """A score with its interval, from its values under `resampling`; None where it is not defined."""
    value, resampled = float(values[0]), values[1:]
    defined = resampled[np.isfinite(resampled)]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    # A score that many resamples do not have (no such pixel in them) has no honest interval.
    if len(resampled) == 0 or len(defined) < LEVEL * len(resampled):
        return {"value": value, "low": None, "high": None}
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return {"value": value, "low": float(low), "high": float(high)}
