"""How steady a row is over time: do its forecasts for one moment agree, and does its segmentation flicker?"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Revisions:
    """Compares the forecasts for one moment made at successive horizons.

    A forecast for the second horizon is compared with the later forecast for the same moment at the first horizon; a
    forecast for the first horizon is compared with the segmentation when the moment arrives. Two moments are the same
    if they are at most `tolerance` (ns) apart.
    """

    def __init__(self, tolerance: int) -> None:
        self._tolerance = tolerance
        self._said: dict[tuple[str, int], list[tuple[int, Array]]] = defaultdict(list)

    def forget(self, before: int) -> None:
        for key, said in self._said.items():
            self._said[key] = [(moment, labels) for moment, labels in said if moment >= before - self._tolerance]

    def next(self, row: str, moments: list[tuple[int, Array]]) -> Iterator[tuple[int, Array]]:
        """`moments` are (stamp, labels) of now and of each horizon. Yields (index of a horizon, [agreeing, all])."""
        for k, (stamp, labels) in enumerate(moments[:-1]):
            earlier = self._nearest(row, k, stamp)
            if earlier is not None:
                yield k, np.array([(earlier == labels).sum(), labels.size])
        for k, (stamp, labels) in enumerate(moments[1:]):
            self._said[row, k].append((stamp, labels))

    def _nearest(self, row: str, horizon: int, stamp: int) -> Array | None:
        said = self._said[row, horizon]
        if not said:
            return None
        moment, labels = min(said, key=lambda each: abs(each[0] - stamp))
        return labels if abs(moment - stamp) <= self._tolerance else None


class Flicker:
    """Pixels whose current label differs from that of the previous sample although the true label stayed the same.

    Without true labels all pixels count, and real motion counts as flicker too.
    """

    def __init__(self) -> None:
        self._before: tuple[Array, Array | None] | None = None

    def next(self, labels: Array, true: Array | None, classes: int) -> Array:
        """[flickering, all]"""
        before, self._before = self._before, (labels, true)
        if before is None:
            return np.zeros(2)
        steady = np.ones(labels.shape, bool)
        if true is not None and before[1] is not None:
            steady = (true == before[1]) & (true < classes)
        return np.array([((labels != before[0]) & steady).sum(), steady.sum()])
