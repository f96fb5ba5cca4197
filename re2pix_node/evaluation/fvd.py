"""Fréchet video distance (Unterthiner et al. 2018): how much a set of short videos differs from the true videos.

A network turns each video into features (`I3d.describe` in evaluation/i3d.py). A Gaussian is fitted
to the features of each set, and the result is the squared distance of the two. A video is the context and the pictures
after it, at our spacing, so the distance measures motion and not only single pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.imaging.decode import Picture

Array = NDArray[Any]
Video = Sequence[Picture]


def frechet_distance(one: Array, other: Array) -> float:
    """Squared distance of the Gaussians with the means and covariances of two sets of features, [videos, features]."""
    apart = one.mean(0) - other.mean(0)
    a, b = _root(one), _root(other)
    # With C = a'a and D = b'b, the trace of the root of CD is the sum of the singular values of ab'. This way forms no
    # covariance, whose smallest eigenvalues would be rounding errors, and needs no matrix root.
    common = np.linalg.norm(a @ b.T, "nuc")
    return max(0.0, float(apart @ apart + np.square(a).sum() + np.square(b).sum() - 2 * common))


def _root(features: Array) -> Array:
    """R with R'R = the covariance of the features."""
    return np.asarray(np.linalg.qr((features - features.mean(0)) / np.sqrt(len(features) - 1), mode="r"))


class FvdTally:
    """The features of all videos: the true ones and those of each row."""

    def __init__(self, describe: Callable[[Sequence[Video]], Array]) -> None:
        self._describe = describe
        self._true: list[Array] = []
        self._said: dict[str, list[Array]] = {}
        self._pictures = 0

    def add(self, context: Video, true: Video, said: Mapping[str, Video]) -> None:
        """Add a sample: the context followed by `true`, and followed by the pictures of each row."""
        true_features, *others = self._describe([[*context, *future] for future in (true, *said.values())])
        self._true.append(true_features)
        for row, features in zip(said, others, strict=True):
            self._said.setdefault(row, []).append(features)
        self._pictures = len(context) + len(true)

    def figures(self) -> dict[str, Any]:
        """The distance of each row; None with a single video."""
        videos, size = len(self._true), len(self._true[0])
        true = np.stack(self._true)
        enough = videos > 1
        rows = {row: frechet_distance(np.stack(said), true) if enough else None for row, said in self._said.items()}
        note = ""
        if videos <= size:
            note = (
                f"{videos} videos are too few for the covariance of {size} features, which needs at least {size + 1}: "
                "compare these figures with each other, and with no others"
            )
        return {"videos": videos, "pictures": self._pictures, "rows": rows, "note": note}
