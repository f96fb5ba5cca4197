"""Finds all moments of a clip from which a forecaster can learn, at every spacing that its frames offer."""

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import TimeSpec
from re2pix_node.pipeline.pipeline import timing_of

Indices = NDArray[np.int64]


def moments(stamps: Indices, time: TimeSpec) -> Indices:
    """Indices [moments, context + horizons] of evenly spaced frames, oldest first, and of the frames after them.

    The run time uses one spacing, the one nearest to the nominal stride. Here every spacing in the manifest's range
    counts, so that a forecaster learns the range. The rule for "evenly spaced" is that of the run time's buffer.
    """
    timing = timing_of(time)
    newest = np.arange(len(stamps))
    if timing.context == 1:
        return _with_future(stamps, newest[:, None], np.full(len(stamps), timing.stride), time, timing.jitter)
    found = []
    for step in range(1, len(stamps)):
        heads = newest[step:]
        first = stamps[heads] - stamps[heads - step]
        if first.min() > timing.stride_max + timing.jitter:
            break
        heads = heads[(first >= timing.stride_min - timing.jitter) & (first <= timing.stride_max + timing.jitter)]
        picks = _followed(stamps, heads, step, timing.context)
        spacing = (stamps[heads] - stamps[picks[:, 0]]) / (timing.context - 1)
        wanted = stamps[heads][:, None] - spacing[:, None] * np.arange(timing.context)[::-1]
        even = (np.abs(stamps[picks] - wanted) <= timing.jitter).all(1)
        even &= (spacing >= timing.stride_min) & (spacing <= timing.stride_max)
        found.append(_with_future(stamps, picks[even], spacing[even], time, timing.jitter))
    width = timing.context + len(time.horizons)
    return np.concatenate(found) if found else np.empty((0, width), np.int64)


def _followed(stamps: Indices, heads: Indices, step: int, context: int) -> Indices:
    """Extrapolate from the newest frame and the one `step` before it: each next frame by the mean spacing so far."""
    picks = [heads, heads - step]
    for steps in range(1, context - 1):
        behind = stamps[heads] - stamps[picks[-1]]
        picks.append(_nearest(stamps, stamps[heads] - behind * (steps + 1) // steps))
    return np.stack(picks[::-1], axis=1)


def _with_future(stamps: Indices, picks: Indices, spacing: NDArray[np.float64], time: TimeSpec, jitter: int) -> Indices:
    times = stamps[picks[:, -1]][:, None] + np.rint(spacing[:, None] * np.array(time.horizons)).astype(np.int64)
    future = _nearest(stamps, times)
    known = (np.abs(stamps[future] - times) <= jitter).all(1)
    found: Indices = np.concatenate([picks, future], axis=1)[known]
    return found


def _nearest(stamps: Indices, times: Indices) -> Indices:
    """Indices of the stamps nearest to these times."""
    after = np.searchsorted(stamps, times).clip(1, len(stamps) - 1) if len(stamps) > 1 else np.zeros_like(times)
    before = np.maximum(after - 1, 0)
    nearest: Indices = np.where(stamps[after] - times < times - stamps[before], after, before)
    return nearest
