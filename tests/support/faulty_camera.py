"""A camera in the test's own process, whose frames and stamps can be wrong, and what holds for every forecast."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from re2pix_msgs.msg import FeatureMap, Forecast
from sensor_msgs.msg import Image

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.pipeline.messages import features_of, stamp_of
from tests.support.faulty_bundle import picture
from tests.support.ros_node import READY, Listener, image, running_node

STEP = 10**8  # ns between frames, by their stamps
JITTER = 0.02e9  # of the tiny bundle's contexts

Make = Callable[[np.ndarray, int], Any]


class FaultyCamera:
    """Sends frames 0.1 s apart by their stamps, and remembers which of them were good."""

    def __init__(self, listener: Listener, kind: type, make: Make, start: int | None, horizons: Sequence[int]) -> None:
        self.listener = listener
        self.horizons = horizons  # of the bundle that forecasts
        self.make = make
        self.stamp = time.time_ns() if start is None else start  # of the next frame
        self.good: set[int] = set()
        # Seconds after each frame: one that comes before the last was taken overwrites it.
        self.pause = 0.03
        self.forecasts = listener.listen(Forecast, "forecast")
        self.features = [listener.listen(FeatureMap, f"h{k}/features") for k in range(4)]
        self.log = listener.listen_log()
        self.publisher = listener.publisher(kind)

    def send(self, make: Make | None = None, fault: tuple[int, int, int] | None = None, good: bool = True) -> None:
        """One frame. A frame that is not `good` must head no forecast and be in no context."""
        if good:
            self.good.add(self.stamp)
        self.publisher.publish((make or self.make)(picture(self.stamp / 1e9 % 60, fault), self.stamp))
        self.stamp += STEP
        self.listener.spin(self.pause)

    def send_until(self, enough: Callable[[], bool], **frame: Any) -> bool:
        """Sends frames until it is enough; all are alike, as in `send`."""
        deadline = time.monotonic() + READY
        while not enough() and time.monotonic() < deadline:
            self.send(**frame)
        return enough()

    def forecast_again(self, count: int = 3) -> bool:
        """Whether so many more forecasts come when good frames do."""
        wanted = len(self.forecasts) + count
        return self.send_until(lambda: len(self.forecasts) >= wanted)

    def spoil(self, what: str, **frame: Any) -> None:
        """Sends one bad frame, and again until diagnostics have counted it: a lone frame may be lost."""
        before = self.listener.count(what)
        deadline = time.monotonic() + READY
        while self.listener.count(what) == before and time.monotonic() < deadline:
            self.send(good=False, **frame)
            self.listener.wait(lambda: self.listener.count(what) > before, 10.0)
        assert self.listener.count(what) > before, what

    def check(self) -> None:
        """No forecast was wrong, whatever was sent."""
        assert self.forecasts
        for message in self.forecasts:
            check_times(message, self.good, self.horizons)
        headed = {stamp_of(message.header) for message in self.forecasts}
        for message in itertools.chain(*self.features):
            assert np.isfinite(features_of(message)).all()
            assert stamp_of(message.header) in self.good
        # The last ones of either may still be under way.
        assert {stamp_of(message.header) for message in self.features[3][:-1]} <= headed


def check_times(
    message: Forecast, good: set[int], steps: Sequence[int] = (1, 2, 3), bounds: tuple[float, float] = (0.12e9, 0.24e9)
) -> None:
    """A forecast's source frame and context are among the good ones, and its times fit together."""
    context = context_of(message)
    spacing = ns(message.spacing)
    assert set(context) <= good
    assert context[-1] == stamp_of(message.header)
    assert bounds[0] <= spacing <= bounds[1]
    assert np.abs(np.diff(context) - spacing).max() <= 2 * JITTER
    horizons = [ns(horizon) for horizon in message.horizons]
    assert horizons == [step * spacing for step in (0, *steps)]
    assert [ns(predicted) for predicted in message.predicted_stamps] == [context[-1] + h for h in horizons]


def context_of(message: Forecast) -> list[int]:
    return [ns(stamp) for stamp in message.context_stamps]


def ns(message: Any) -> int:
    """A Time or Duration in nanoseconds."""
    return int(message.sec) * 10**9 + int(message.nanosec)


@contextlib.contextmanager
def filming(
    bundle: Path, kind: type = Image, make: Make = image, start: int | None = None, **parameters: object
) -> Iterator[FaultyCamera]:
    """A camera and a node that forecasts from it."""
    listener = Listener(f"/faults_{time.monotonic_ns()}")
    try:
        camera = FaultyCamera(listener, kind, make, start, read_bundle(bundle).manifest.time.horizons)
        with running_node(listener.namespace, bundle=bundle, **parameters):
            listener.wait_active(camera.publisher)
            assert camera.forecast_again(), listener.message
            yield camera
    finally:
        listener.node.destroy_node()
