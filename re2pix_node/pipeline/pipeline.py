"""Frames in, forecasts out. Knows no ROS."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import NANOSECONDS, TimeSpec
from re2pix_node.bundle.reader import Bundle, draw_noise
from re2pix_node.engines.base import Engine, Features
from re2pix_node.errors import NotFiniteError, Re2pixError, StampError
from re2pix_node.imaging.geometry import FITS, Region, fit_frame
from re2pix_node.pipeline.buffer import Arrival, Context, FrameBuffer, Timing
from re2pix_node.pipeline.output_check import OutputCheck
from re2pix_node.render.renderer import PictureScene

# The time of ROS has 31 bits of seconds. A forecast speaks of later moments, which must have a time too.
LATEST = (2**31 - 86_400) * NANOSECONDS


@dataclass(frozen=True)
class Forecast:
    """The forecast from one source frame. Index 0 of `horizons`, `labels` and `confidence` is the frame itself."""

    stamp: int  # stamp of the newest source frame, ns
    context_stamps: tuple[int, ...]  # oldest first, the last is `stamp`
    spacing: int  # ns
    horizons: tuple[int, ...]  # ns after `stamp`
    observed: NDArray[Any]  # [h, w, C]: features of the source frame
    features: NDArray[Any]  # [samples, K, h, w, C]: of the horizons after the first
    labels: NDArray[Any]  # u8 [samples, K + 1, H', W']
    confidence: NDArray[Any]  # u8 [samples, K + 1, H', W']
    region: Region  # the part of the camera image that grids and masks cover
    optional: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # by name, each [samples, K + 1, ...]

    @property
    def predicted_stamps(self) -> tuple[int, ...]:
        return tuple(self.stamp + horizon for horizon in self.horizons)


class NoForecast(Enum):
    """The reason why a frame gave no forecast."""

    REPEATED = "repeated"
    NO_CONTEXT = "no context"
    SKIPPED = "skipped"  # none was asked for


@dataclass(frozen=True)
class PictureSource:
    """The inputs for pictures of a forecast. The context stays in its engine until `scene` fetches it."""

    frame: NDArray[np.uint8]  # as the encoder took it
    context: tuple[Features, ...]
    fetch: Callable[[Features], NDArray[Any]]  # from the engine that holds the context
    seed: int


@dataclass(frozen=True)
class Observation:
    """The result of one frame."""

    stamp: int  # ns
    arrival: Arrival  # how the stamp followed the previous one
    seconds: Mapping[str, float]  # of each stage
    features: NDArray[Any] | None  # [h, w, C] of the frame; None for a repeated frame
    forecast: Forecast | None
    missing: NoForecast | None  # the reason if there is no forecast
    source: PictureSource | None  # present if there is a forecast

    def scene(self, k: int) -> PictureScene:
        """The inputs for a picture of the forecast at h<k>, from its first sample."""
        assert self.forecast is not None
        assert self.source is not None
        return PictureScene(
            features=self.forecast.features[0, k - 1],
            frame=self.source.frame,
            context=tuple(self.source.fetch(features) for features in self.source.context),
            horizon=k,
            seed=(self.source.seed, self.stamp),
        )


def timing_of(spec: TimeSpec) -> Timing:
    """A manifest's seconds as the buffer's nanoseconds."""

    def ns(seconds: float) -> int:
        return round(seconds * NANOSECONDS)

    return Timing(spec.context, ns(spec.stride), ns(spec.stride_min), ns(spec.stride_max), ns(spec.jitter))


class Pipeline:
    """Encodes every frame once, keeps the result, and forecasts from the kept frames."""

    def __init__(self, bundle: Bundle, engine: Engine, fit: str | None = None, seed: int = 0) -> None:
        self._engine = engine
        self.seed = seed  # of a stochastic forecaster's noise; seed and stamp determine a forecast
        self._spec = bundle.manifest
        self._fit = fit or bundle.manifest.image.fit
        if self._fit not in FITS:
            raise Re2pixError(f"there is no fit '{self._fit}': choose one of {', '.join(FITS)}")
        self._buffer: FrameBuffer[Features] = FrameBuffer(timing_of(bundle.manifest.time))
        self._region: Region | None = None
        self._check = OutputCheck(self._spec.labels)

    def use(self, engine: Engine) -> None:
        """Start again with another engine and an empty buffer, after the engine before it has failed."""
        self._buffer.clear()
        self._engine = engine

    def observe_with(self, engine: Engine, frame: NDArray[np.uint8], stamp: int) -> Observation:
        """As `observe`, but with another engine from this frame on; it gets the frames that the old engine has encoded.

        If that engine raises, nothing has changed.
        """
        if self._buffer.newest == stamp:  # a repeated frame would not test the engine
            return self.observe(frame, stamp)
        before = self._engine, self._buffer, self._region
        try:
            self._buffer = self._buffer.converted(lambda features: engine.upload(before[0].fetch(features)))
            self._engine = engine
            return self.observe(frame, stamp)
        except BaseException:
            self._engine, self._buffer, self._region = before
            raise

    def observe(self, frame: NDArray[np.uint8], stamp: int, forecasts: bool = True) -> Observation:
        """Take one camera frame, u8 [height, width, 3] RGB, with its `stamp` (ns).

        There is no forecast for a repeated frame, if there is no evenly spaced context yet, or if `forecasts` is False:
        then later contexts can use the frame all the same.
        """
        if not 0 <= stamp <= LATEST:
            raise StampError(
                f"frame stamped {stamp / NANOSECONDS:.3f} s: stamps must lie from 0 to {LATEST / NANOSECONDS:.0f} s, "
                "so that its forecasts have times, too: correct the camera's clock"
            )
        if self._buffer.newest == stamp:
            return Observation(stamp, Arrival.REPEATED, {}, None, None, NoForecast.REPEATED, None)
        seconds: dict[str, float] = {}
        with _timed(seconds, "fit"):
            picture, region = fit_frame(frame, self._spec.image.height, self._spec.image.width, self._fit)
        if region != self._region:
            # Cells of differently cropped frames do not match.
            self._buffer.clear()
            self._region = region
        with _timed(seconds, "encode"):
            encoded = self._engine.encode(picture[None])
            features = self._engine.fetch(encoded)[0]
        published, carried = np.split(features, [self._spec.features.channels], axis=-1)
        features = np.ascontiguousarray(published)
        self._check.features(features, "the encoder")
        if not np.isfinite(carried).all():  # never published, but every forecast is computed from it
            raise NotFiniteError("the encoder gave channels with NaN or infinity: nothing is forecast from this frame")
        arrival = self._buffer.push(stamp, encoded)
        context = self._buffer.context()
        if context is None:
            return Observation(stamp, arrival, seconds, features, None, NoForecast.NO_CONTEXT, None)
        if not forecasts:
            return Observation(stamp, arrival, seconds, features, None, NoForecast.SKIPPED, None)
        with _timed(seconds, "forecast"):
            forecast = self._forecast(context, features, region)
        source = PictureSource(picture, context.frames, self._engine.fetch, self.seed)
        return Observation(stamp, arrival, seconds, features, forecast, None, source)

    def _forecast(self, context: Context[Features], observed: NDArray[Any], region: Region) -> Forecast:
        outputs = self._engine.forecast(context.frames, draw_noise(self._spec, self.seed, context.stamps[-1]))
        self._check.features(outputs.features, "the forecaster")
        self._check.masks(outputs.labels)
        self._check.optional(outputs.optional)
        steps = (0, *self._spec.time.horizons)
        return Forecast(
            stamp=context.stamps[-1],
            context_stamps=context.stamps,
            spacing=context.spacing,
            horizons=tuple(step * context.spacing for step in steps),
            observed=observed,
            features=outputs.features,
            labels=outputs.labels,
            confidence=outputs.confidence,
            region=region,
            optional=outputs.optional,
        )


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
