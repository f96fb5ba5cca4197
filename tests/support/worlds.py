"""Made-up worlds whose future is known exactly, and a forecaster for them, as good or bad as a test wants."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from re2pix_node.bundle.manifest import UNLABELLED, FeatureSpec, Manifest
from re2pix_node.engines.base import ForecastArrays
from re2pix_node.evaluation.classes import bundle_classes
from re2pix_node.evaluation.model import EvaluatedModel
from re2pix_node.evaluation.scoring import ScoredDrive
from re2pix_node.footage.clips import Sample
from tests.support import drive
from tests.support.tiny_bundle import CELL, tiny_manifest

SPACING = 180_000_000
CLASSES = bundle_classes(tiny_manifest().labels)
COLOURS = np.array([colour for colour, _ in drive.LOOKS.values()], np.float32)
IDS = np.array([c.id for c in tiny_manifest().labels.classes], np.uint8)


def manifest() -> Manifest:
    cells = tiny_manifest().features
    return dataclasses.replace(tiny_manifest(), features=FeatureSpec(cells.height, cells.width, 3, "float32"))


class Sliding:
    """A ring of patches, each of one class and with a texture, that slides by some cells a step. Nothing else moves."""

    def __init__(self, seed: int = 0, cells_a_step: int = 1) -> None:
        rng = np.random.default_rng(seed)
        spec = tiny_manifest()
        rows, columns = spec.image.height // (2 * CELL), spec.image.width // (4 * CELL)
        self._classes = rng.integers(0, len(COLOURS), (rows, columns)).repeat(2 * CELL, 0).repeat(4 * CELL, 1)
        speckle = rng.normal(0, 6, self._classes.shape)[..., None]
        self._picture = (COLOURS[self._classes] + speckle).clip(0, 255).astype(np.uint8)
        self._pixels_a_step = cells_a_step * CELL

    def frame(self, step: int) -> np.ndarray:
        return np.ascontiguousarray(np.roll(self._picture, step * self._pixels_a_step, axis=1))

    def labels(self, step: int) -> np.ndarray:
        return IDS[np.roll(self._classes, step * self._pixels_a_step, axis=1)]


class Seer:
    """An engine that knows how such a world goes on: it slides the newest features by `cells_a_step`.

    It takes and gives what the graphs of a bundle do, and its head reads the nearest class colour.
    """

    name, precision, version = "seer", "fp32", "1"

    def __init__(self, cells_a_step: int = 1, confidence: int = 255) -> None:
        self._cells_a_step = cells_a_step
        self._confidence = confidence

    def encode(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[1] // CELL, frame.shape[2] // CELL
        cells = frame[0].reshape(height, CELL, width, CELL, 3).astype(np.float32).mean(axis=(1, 3))
        return cells[None] / 255

    def forecast(self, context: Sequence[np.ndarray], noise: np.ndarray | None = None) -> ForecastArrays:
        moments = [np.roll(context[-1][0], k * self._cells_a_step, axis=1) for k in range(4)]
        labels = np.stack([self._read(features) for features in moments])[None]
        return ForecastArrays(np.stack(moments[1:])[None], labels, np.full_like(labels, self._confidence))

    def upload(self, features: np.ndarray) -> np.ndarray:
        return features

    def fetch(self, features: np.ndarray) -> np.ndarray:
        return features

    def _read(self, features: np.ndarray) -> np.ndarray:
        apart = np.linalg.norm(features[..., None, :] - COLOURS / 255, axis=-1)
        return IDS[apart.argmin(axis=-1)].repeat(CELL // 2, 0).repeat(CELL // 2, 1)


def samples(world: Sliding, count: int = 6, name: str = "clip") -> list[Sample]:
    def moment(now: int) -> Sample:
        context, future = range(now - 3, now + 1), range(now + 1, now + 4)
        return Sample(
            name,
            tuple(world.frame(i) for i in context),
            tuple(i * SPACING for i in context),
            SPACING,
            tuple(world.frame(i) for i in future),
            tuple(i * SPACING for i in future),
            world.labels(now),
            tuple(world.labels(i) for i in future),
        )

    return [moment(now) for now in range(3, 3 + count)]


def drive_of(name: str, clip: list[Sample]) -> ScoredDrive:
    def every(n: int) -> Iterator[Sample]:
        return iter(clip[::n])

    return ScoredDrive(name, every, CLASSES.of_bundle)


def sliding_drives(count: int, cells_a_step: int = 1) -> list[ScoredDrive]:
    return [drive_of(f"clip {i}", samples(Sliding(i, cells_a_step))) for i in range(count)]


def model(engine: Seer) -> EvaluatedModel:
    return EvaluatedModel(manifest(), engine)


def street_labels(frame: np.ndarray) -> np.ndarray:
    """True labels of a frame of the drawn drive, by its exact colours; what is smoothed between two counts nowhere."""
    labels = np.full(frame.shape[:2], UNLABELLED, np.uint8)
    for label, colours in zip(IDS, _STREET.values(), strict=True):
        for colour in colours:
            labels[(frame == colour).all(axis=-1)] = label
    return labels


_STREET = {
    "road": [drive.LOOKS["road"][0], (225, 225, 225)],
    "building": [drive.LOOKS["building"][0], (80, 90, 110)],
    "vegetation": [drive.LOOKS["vegetation"][0], (60, 120, 50), (90, 70, 50)],
    "sky": [drive.LOOKS["sky"][0]],
    "car": [drive.LOOKS["car"][0], (60, 70, 90), (30, 30, 30)],
}
