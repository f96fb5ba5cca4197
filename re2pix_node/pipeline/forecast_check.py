"""Checks the times in a forecast message, for tests and tools that must not trust the node."""

import itertools
from collections.abc import Callable
from typing import Any

from re2pix_node.bundle.manifest import NANOSECONDS, TimeSpec
from re2pix_node.pipeline.messages import ns_of


class StampCheck:
    """Checks forecasts in the order in which they arrive."""

    def __init__(self, spec: TimeSpec) -> None:
        self._spec = spec
        self._previous = 0

    def faults(self, message: Any, now: int, has_sent: Callable[[int], bool]) -> list[str]:
        """The faults in the times of a message that arrived at `now` (ns); empty if there are none."""
        stamp = ns_of(message.header.stamp)
        spacing = ns_of(message.spacing)
        context = [ns_of(moment) for moment in message.context_stamps]
        horizons = [ns_of(horizon) for horizon in message.horizons]
        predicted = [ns_of(moment) for moment in message.predicted_stamps]
        steps = [later - earlier for earlier, later in itertools.pairwise(context)]
        jitter = 2 * self._spec.jitter * NANOSECONDS + 1  # the spacing is rounded
        expected = [step * spacing for step in (0, *self._spec.horizons)]
        holds = {
            "its stamp was never sent": has_sent(stamp),
            "its stamp lies in the future": stamp <= now,
            "its stamp is not after that of the forecast before": stamp > self._previous,
            "its context has stamps that were never sent": all(map(has_sent, context)),
            "its context is not as long as the bundle's": len(context) == self._spec.context,
            "its context does not end at its stamp": context[-1:] == [stamp],
            "its context is not in order": all(step > 0 for step in steps),
            "its context is not evenly spaced": all(abs(step - spacing) <= jitter for step in steps),
            "its spacing is not one of the bundle": self._knows(spacing),
            "its horizons are not the bundle's, times its spacing": horizons == expected,
            "its predicted stamps are not its stamp and horizons": predicted == [stamp + h for h in horizons],
        }
        self._previous = stamp
        return [fault for fault, well in holds.items() if not well]

    def _knows(self, spacing: int) -> bool:
        return self._spec.stride_min <= round(spacing / NANOSECONDS, 6) <= self._spec.stride_max
