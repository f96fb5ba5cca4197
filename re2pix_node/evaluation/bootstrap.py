"""The uncertainty of a score: percentile intervals over resampled clips.

Frames of one clip resemble one another, so clips are resampled, never frames.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
# Resamples of few clips are too similar: for normal values the "95%" interval contains the mean in 75% of cases with 3
# clips, in 83% with 5, in 86% with 6, in 90% with 10. 6 is the smallest number with which the smallest and the largest
# value enclose the median in 95% of cases: all values lie on one side of it once in 2**5 = 32 times.
FEWEST = 6


def resampling(clips: int) -> NDArray[Any]:
    """[1 + RESAMPLES, clips]: how often each clip counts. The first line counts each once and gives the score itself.

    With fewer than FEWEST clips there is only this line.
    """
    once = np.ones((1, clips))
    if clips < FEWEST:
        return once
    rng = np.random.default_rng(SEED)
    return np.vstack([once, rng.multinomial(clips, np.full(clips, 1 / clips), RESAMPLES)])


def figure(values: NDArray[Any]) -> dict[str, float | None]:
    """A score with its interval, from its values in all lines of `resampling`; None where it is not defined."""
    value, resampled = float(values[0]), values[1:]
    defined = resampled[np.isfinite(resampled)]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    # A score that is undefined in many resamples (no such pixel in them) has no meaningful interval.
    if len(resampled) == 0 or len(defined) < LEVEL * len(resampled):
        return {"value": value, "low": None, "high": None}
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return {"value": value, "low": float(low), "high": float(high)}
