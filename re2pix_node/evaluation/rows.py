"""The rows of the table: the output of each forecaster and baseline for the moments after a sample."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.evaluation.flow import backward_flow, on_grid, warp_nearest, warp_smooth
from re2pix_node.evaluation.model import EvaluatedModel, Read, SeenFrame
from re2pix_node.evaluation.ridge import RidgeSums, predict, regressors, sums_of

if TYPE_CHECKING:
    from re2pix_node.footage.clips import Sample

Array = NDArray[Any]

COPY, WARP, WARP_HEAD, RIDGE, FORECAST, ORACLE = "copy", "warp", "warp-head", "ridge", "forecast", "oracle"
BASELINES = (WARP, WARP_HEAD, RIDGE)  # the rows that can be left out
ROWS = (COPY, *BASELINES, FORECAST, ORACLE)
MEANING = {
    COPY: "nothing changes: the features and labels of the newest frame",
    WARP: "everything keeps moving as it just did: features and labels of now, warped by optical flow (DIS)",
    WARP_HEAD: "the warped features with the bundle's head: the warp with the same head as the forecast",
    RIDGE: "a linear regression for each channel on the context, its blur and the warp; labelled by the bundle's head",
    FORECAST: "the bundle",
    ORACLE: "the bundle's head on the true future frame: its labels with perfect features",
}


@dataclass(frozen=True)
class Said:
    """The output of one row for one moment."""

    features: Array
    read: Read


@dataclass(frozen=True)
class SeenScene:
    """A sample as the model sees it."""

    context: list[SeenFrame]
    future: list[SeenFrame]

    @property
    def held(self) -> list[Any]:
        return [seen.held for seen in self.context]

    @property
    def now(self) -> SeenFrame:
        return self.context[-1]


def see_scene(model: EvaluatedModel, sample: "Sample") -> SeenScene:
    model.forget(before=sample.context_stamps[0])
    return SeenScene(
        [model.see(frame, stamp) for frame, stamp in zip(sample.context, sample.context_stamps, strict=True)],
        [model.see(frame, stamp) for frame, stamp in zip(sample.future, sample.future_stamps, strict=True)],
    )


class Forecasters:
    """All rows of one scene. `ridge` holds the weights of each horizon, or nothing."""

    def __init__(self, model: EvaluatedModel, chosen: tuple[str, ...], ridge: list[Array] | None) -> None:
        self._model = model
        self._steps = model.manifest.time.horizons
        self._chosen = {COPY, FORECAST, ORACLE} | set(chosen) - (set() if ridge else {RIDGE})
        self._ridge = ridge

    def say(self, scene: SeenScene) -> tuple[Read, list[dict[str, Said]]]:
        """The current segmentation, and for each horizon the rows by name, in the order of ROWS."""
        outputs = self._model.forecast(scene.held)
        now = Read(outputs.labels[0, 0], outputs.confidence[0, 0])
        warps = Warps(scene) if self._chosen & set(BASELINES) else None
        horizons = []
        for k, steps in enumerate(self._steps):
            said = {
                COPY: Said(scene.now.features, now),
                FORECAST: Said(outputs.features[0, k], Read(outputs.labels[0, k + 1], outputs.confidence[0, k + 1])),
                ORACLE: Said(scene.future[k].features, self._model.read_seen(scene.future[k], scene.held)),
            }
            if warps:
                said |= self._moved(scene, warps, now, k, steps)
            horizons.append({row: said[row] for row in ROWS if row in self._chosen})
        return now, horizons

    def _moved(self, scene: SeenScene, warps: "Warps", now: Read, k: int, steps: int) -> dict[str, Said]:
        warped = warps.features(steps)
        # A head may look at the picture as well: it gets the moved one.
        carried = self._model.carried_of(warps.picture(steps)) if self._chosen & {WARP_HEAD, RIDGE} else warped[..., :0]
        said = {WARP: Said(warped, warps.read(now, steps))}
        if WARP_HEAD in self._chosen:
            said[WARP_HEAD] = self._headed(scene, warped, carried)
        if RIDGE in self._chosen and self._ridge:
            given = regressors([seen.features for seen in scene.context], warped)
            said[RIDGE] = self._headed(scene, predict(self._ridge[k], given, scene.now.features), carried)
        return said

    def _headed(self, scene: SeenScene, features: Array, carried: Array) -> Said:
        return Said(features, self._model.read(features, carried, scene.held))


class Warps:
    """The newest frame of a scene, moved with the velocity since the previous frame of the context."""

    def __init__(self, scene: SeenScene) -> None:
        self._now = scene.now
        before = scene.context[-2] if len(scene.context) > 1 else scene.now
        self._flow = backward_flow(scene.now.picture, before.picture)

    def features(self, steps: int) -> Array:
        grid = self._now.features
        return warp_smooth(grid, on_grid(self._flow, *grid.shape[:2]), steps).astype(grid.dtype)

    def picture(self, steps: int) -> NDArray[np.uint8]:
        moved = warp_smooth(self._now.picture, self._flow, steps)
        return moved.round().clip(0, 255).astype(np.uint8)

    def read(self, now: Read, steps: int) -> Read:
        flow = on_grid(self._flow, *now.labels.shape)
        return Read(warp_nearest(now.labels, flow, steps), warp_nearest(now.confidence, flow, steps))


def ridge_sums(scene: SeenScene, steps: tuple[int, ...]) -> list[RidgeSums]:
    """The sums of a scene for fitting the ridge, for each horizon."""
    warps, context = Warps(scene), [seen.features for seen in scene.context]
    return [
        sums_of(regressors(context, warps.features(step)), scene.now.features, future.features)
        for step, future in zip(steps, scene.future, strict=True)
    ]
