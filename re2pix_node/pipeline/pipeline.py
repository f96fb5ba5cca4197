"""Frames in, forecasts out. No ROS in it."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import NANOSECONDS, TimeSpec
from re2pix_node.bundle.reader import Bundle, draw_noise
from re2pix_node.engines.base import Engine, Features
from re2pix_node.errors import NotFiniteError, Re2pixError
from re2pix_node.imaging.geometry import FITS, Region, fit_frame
from re2pix_node.pipeline.buffer import Arrival, FrameBuffer, Timing
from re2pix_node.render.renderer import PictureScene


@dataclass(frozen=True)
class Forecast:
    """What is expected after one source frame. Index 0 of `horizons`, `labels` and `confidence` is the frame itself."""

    stamp: int  # of the newest source frame, ns
    context_stamps: tuple[int, ...]  # oldest first, the last is `stamp`
    spacing: int  # ns
    horizons: tuple[int, ...]  # ns after `stamp`
    observed: NDArray[Any]  # [h, w, C]: features of the source frame
    features: NDArray[Any]  # [samples, K, h, w, C]: of the horizons after the first
    labels: NDArray[Any]  # u8 [samples, K + 1, H', W']
    confidence: NDArray[Any]  # u8 [samples, K + 1, H', W']
    region: Region  # the part of the camera image that grids and masks cover

    @property
    def predicted_stamps(self) -> tuple[int, ...]:
        return tuple(self.stamp + horizon for horizon in self.horizons)


def timing_of(spec: TimeSpec) -> Timing:
    """A manifest's seconds as the buffer's nanoseconds."""

    def ns(seconds: float) -> int:
        return round(seconds * NANOSECONDS)

    return Timing(spec.context, ns(spec.stride), ns(spec.stride_min), ns(spec.stride_max), ns(spec.jitter))


class Pipeline:
    """Encodes every frame once, remembers it, and forecasts from what it remembers."""

    def __init__(self, bundle: Bundle, engine: Engine, fit: str | None = None, seed: int = 0) -> None:
        self._engine = engine
        self.seed = seed  # of the noise that a stochastic forecaster takes; with the stamp it decides a forecast
        self._spec = bundle.manifest
        self._fit = fit or bundle.manifest.image.fit
        if self._fit not in FITS:
            raise Re2pixError(f"there is no fit '{self._fit}': choose one of {', '.join(FITS)}")
        self._buffer: FrameBuffer[Features] = FrameBuffer(timing_of(bundle.manifest.time))
        self._region: Region | None = None
        # What happened to frames that led to no forecast, and how the newest one arrived.
        self.counts: Counter[str] = Counter()
        self.arrival = Arrival.IN_ORDER
        self.seconds: dict[str, float] = {}  # that each stage of the newest frame took
        self.observed: NDArray[Any] | None = None  # features of the newest frame, whether a forecast came of it or not
        self._picture: NDArray[np.uint8] | None = None  # the newest frame as the encoder took it
        self._context: tuple[Features, ...] = ()  # that the newest forecast was made from

    def use(self, engine: Engine, keep: bool) -> None:
        """Goes on with another engine. `keep`: the one before still works, and what it encoded is carried over."""
        if keep:
            self._buffer.convert(lambda features: engine.upload(self._engine.fetch(features)))
        else:
            self.forget()
        self._context = ()  # it was the engine's before
        self._engine = engine

    def forget(self) -> None:
        """Starts anew, as with the first frame of all."""
        self._buffer.clear()

    def observe(self, frame: NDArray[np.uint8], stamp: int) -> Forecast | None:
        """Takes one camera frame, u8 [height, width, 3] RGB, seen at `stamp` (ns).

        None when it was seen before or when there is no evenly spaced context for it yet.
        """
        self.observed = None
        if self._buffer.newest == stamp:
            self.arrival = Arrival.REPEATED
            self.counts["repeated"] += 1
            return None
        self.seconds = {}
        with self._timed("fit"):
            picture, region = fit_frame(frame, self._spec.image.height, self._spec.image.width, self._fit)
        self._picture = picture
        if region != self._region:
            # Cells of differently cut frames do not lie on one another.
            self._buffer.clear()
            self._region = region
        with self._timed("encode"):
            encoded = self._engine.encode(picture[None])
            observed = self._engine.fetch(encoded)[0]
        _require_finite(observed, "the encoder")
        self.arrival = self._buffer.push(stamp, encoded)
        self.observed = np.ascontiguousarray(observed[..., : self._spec.features.channels])
        return self._forecast(self.observed, region)

    def scene(self, forecast: Forecast, k: int) -> PictureScene:
        """What a picture of the newest forecast, at h<k>, is drawn from. Of several samples the first is shown."""
        assert self._picture is not None
        assert self._buffer.newest == forecast.stamp
        return PictureScene(
            features=forecast.features[0, k - 1],
            frame=self._picture,
            context=tuple(self._engine.fetch(features) for features in self._context),
            horizon=k,
            seed=(self.seed, forecast.stamp),
        )

    def _forecast(self, observed: NDArray[Any], region: Region) -> Forecast | None:
        context = self._buffer.context()
        if context is None:
            self.counts["no context"] += 1
            return None
        with self._timed("forecast"):
            outputs = self._engine.forecast(context.frames, self._noise(context.stamps[-1]))
        _require_finite(outputs.features, "the forecaster")
        self._context = context.frames
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
        )

    def _noise(self, stamp: int) -> NDArray[np.float32] | None:
        return draw_noise(self._spec, self.seed, stamp)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


def _require_finite(features: NDArray[Any], who: str) -> None:
    if not np.isfinite(features).all():
        raise NotFiniteError(f"{who} gave features that are not finite: nothing is forecast from this frame")
