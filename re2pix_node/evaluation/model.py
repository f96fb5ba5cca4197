"""Runs the bundle: encodes each frame once, and applies its segmentation head to any features."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import UNLABELLED, Manifest
from re2pix_node.bundle.reader import draw_noise
from re2pix_node.engines.base import Engine, Features, ForecastArrays
from re2pix_node.errors import EngineError
from re2pix_node.imaging.geometry import Region, fit_frame

Array = NDArray[Any]


@dataclass(frozen=True)
class SeenFrame:
    """A camera frame as the model sees it."""

    stamp: int
    picture: NDArray[np.uint8]  # cropped and resized to the model's input
    region: Region  # the part of the camera image it shows
    held: Features  # its features as the engine holds them
    features: Array  # [h, w, C], without the carried channels
    carried: Array  # [h, w, c]: the small picture after them


@dataclass(frozen=True)
class Read:
    """A segmentation: the head's output on features."""

    labels: Array  # u8 [H', W']
    confidence: Array


class EvaluatedModel:
    """An engine with its bundle's manifest, for one clip at a time."""

    def __init__(self, manifest: Manifest, engine: Engine, fit: str | None = None) -> None:
        self.manifest = manifest
        self._engine = engine
        self._noise = draw_noise(manifest, 0)
        self._fit = fit or manifest.image.fit
        self._seen: dict[int, SeenFrame] = {}
        self._read: dict[int, Read] = {}
        self.seconds: dict[str, list[float]] = {"encode": [], "forecast": []}

    def see(self, frame: NDArray[np.uint8], stamp: int) -> SeenFrame:
        """Encode the frame, once for each stamp of a clip."""
        if stamp not in self._seen:
            size = self.manifest.image
            picture, region = fit_frame(frame, size.height, size.width, self._fit)
            start = time.perf_counter()
            held = self._engine.encode(picture[None])
            features = self._engine.fetch(held)[0]
            self.seconds["encode"].append(time.perf_counter() - start)
            _require_finite(features, "the encoder")
            split = self.manifest.features.channels
            self._seen[stamp] = SeenFrame(stamp, picture, region, held, features[..., :split], features[..., split:])
        return self._seen[stamp]

    def forget(self, before: int | None = None) -> None:
        """Drop frames before a stamp, or all: stamps of another clip mean other frames."""
        self._seen = {stamp: seen for stamp, seen in self._seen.items() if before is not None and stamp >= before}
        self._read = {stamp: read for stamp, read in self._read.items() if stamp in self._seen}

    def forecast(self, context: Sequence[Features]) -> ForecastArrays:
        start = time.perf_counter()
        outputs = self._engine.forecast(context, self._noise)
        self.seconds["forecast"].append(time.perf_counter() - start)
        _require_finite(outputs.features, "the forecaster")
        return outputs

    def carried_of(self, picture: NDArray[np.uint8]) -> Array:
        """The carried channels of a picture of the model's size."""
        if not self.manifest.features.carried:
            return np.zeros((*self._grid, 0), np.float32)
        found: Array = self._engine.fetch(self._engine.encode(picture[None]))[0]
        return found[..., self.manifest.features.channels :]

    @property
    def _grid(self) -> tuple[int, int]:
        return self.manifest.features.height, self.manifest.features.width

    def read(self, features: Array, carried: Array, context: Sequence[Features]) -> Read:
        """The output of the bundle's head on any features, and on the small picture that belongs to them.

        A bundle has no separate graph for its head. But index 0 of the forecast graph's labels is the head on the
        newest context frame, so features go there; the frames before them do not matter.
        """
        whole = np.concatenate([features, carried], -1).astype(self.manifest.features.dtype)
        newest = self._engine.upload(whole[None])
        outputs = self._engine.forecast([*context[:-1], newest], self._noise)
        return Read(outputs.labels[0, 0], outputs.confidence[0, 0])

    def read_seen(self, seen: SeenFrame, context: Sequence[Features]) -> Read:
        """The head's output on a frame of the clip, computed once for each frame."""
        if seen.stamp not in self._read:
            self._read[seen.stamp] = self.read(seen.features, seen.carried, context)
        return self._read[seen.stamp]


def fit_labels(labels: Array, region: Region, height: int, width: int) -> Array:
    """True labels of a camera image at the size of the masks: each mask pixel gets the label at its centre."""
    rows, columns = labels.shape
    y = (region.y + (np.arange(height) + 0.5) * region.height / height) * rows / region.image_height
    x = (region.x + (np.arange(width) + 0.5) * region.width / width) * columns / region.image_width
    # Masks of bundles that pad frames are larger than the camera image; outside there is no truth.
    inside = ((y >= 0) & (y < rows))[:, None] & ((x >= 0) & (x < columns))
    nearest = labels[np.ix_(y.astype(int).clip(0, rows - 1), x.astype(int).clip(0, columns - 1))]
    return np.where(inside, nearest, UNLABELLED).astype(np.uint8)


def _require_finite(features: Array, who: str) -> None:
    if not np.isfinite(features).all():
        raise EngineError(f"{who} gave features with NaN or infinity: re2pix check shows whether the engine is sound")
