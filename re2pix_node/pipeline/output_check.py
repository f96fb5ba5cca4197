"""Checks the outputs of one frame before they are passed on, in the types in which they are published."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import UNLABELLED, LabelSpec
from re2pix_node.errors import NotFiniteError, OutputError

# Features are published in half precision; values from here on become infinite in it.
HALF_OVERFLOWS = 65520.0
_NOTHING = "nothing is forecast from this frame"


class OutputCheck:
    """Refuses outputs that must not be published, for bundles with these labels."""

    def __init__(self, labels: LabelSpec) -> None:
        self._known = bytes([*(c.id for c in labels.classes), UNLABELLED])

    def features(self, values: NDArray[Any], who: str) -> None:
        """NotFiniteError if the features are not finite in half precision."""
        if lies_within(values, HALF_OVERFLOWS):
            return
        if np.isfinite(values).all():
            raise NotFiniteError(f"{who} gave features above 65504, which half precision cannot hold: {_NOTHING}")
        raise NotFiniteError(f"{who} gave features with NaN or infinity: {_NOTHING}")

    def masks(self, labels: NDArray[Any]) -> None:
        """OutputError if a mask has a class that the bundle does not name."""
        # Several times faster than looking up every pixel with NumPy.
        strange = labels.tobytes().translate(None, self._known)
        if strange:
            raise OutputError(f"the forecaster gave the class {strange[0]}, which the bundle does not name: {_NOTHING}")

    def optional(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        """NotFiniteError if one of the optional outputs is not finite."""
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise NotFiniteError(f"the forecaster gave {name} with NaN or infinity: {_NOTHING}")


def lies_within(values: NDArray[Any], bound: float) -> bool:
    """Return True if all values are between -bound and bound; NaN is not."""
    return bool(values.size) and bool(-bound < values.min()) and bool(values.max() < bound)
