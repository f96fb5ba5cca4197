"""Pauses between the starts of a renderer that fails, by a clock of the test's own."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from re2pix_node.errors import EngineError
from re2pix_node.pipeline.events import PictureFailed, RendererTold
from re2pix_node.ros import render_worker
from re2pix_node.ros.render_worker import RenderWorker


class Stand:
    """A worker with a clock that a test sets, and with a stand-in for the renderer that fails when a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.starts: list[float] = []
        self.published = 0
        self.events: list[Any] = []
        self.fails_to_start = self.fails_to_draw = False
        monkeypatch.setattr(render_worker, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(render_worker, "RenderProcess", lambda *_: self._start())
        outputs: Any = SimpleNamespace(wanted_pictures=lambda: [1], publish_picture=lambda *_: self._publish())
        bundle: Any = None
        self.worker = RenderWorker(bundle, outputs, 1, self.events.append)
        self.worker.rate = 60.0

    def _start(self) -> Any:
        self.starts.append(self.now)
        if self.fails_to_start:
            raise EngineError("it fails to start")
        return SimpleNamespace(ready=lambda: "drawer", draw=lambda _: self._draw(), close=int, kill=int)

    def _draw(self) -> np.ndarray:
        if self.fails_to_draw:
            raise EngineError("it fails to draw")
        return np.zeros((2, 2, 3), np.uint8)

    def _publish(self) -> None:
        self.published += 1

    def fail(self) -> None:
        before = self._failures()
        self.worker.prepare()
        wait_for(lambda: self._failures() > before)

    def begin(self) -> None:
        self.worker.prepare()
        wait_for(lambda: RendererTold("drawer", draws=True) in self.events)

    def offer(self) -> None:
        horizons = (0, 10**9)
        forecast = SimpleNamespace(stamp=round(self.now * 1e9), horizons=horizons)
        observation: Any = SimpleNamespace(forecast=forecast, scene=lambda k: SimpleNamespace(horizon=k))
        self.worker.offer(observation, "camera", self.now)

    def check_pause(self, seconds: float) -> None:
        """Nothing starts before this time has passed; then it may."""
        self.now += seconds - 0.01
        self.worker.prepare()  # to no effect, or `starts` has a time too many
        self.now += 0.02

    def _failures(self) -> int:
        return sum(isinstance(event, PictureFailed) for event in self.events)


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    stand = Stand(monkeypatch)
    yield stand
    stand.worker.close()
    assert stand.worker.wait(20)


def test_a_renderer_that_cannot_start_is_tried_ever_more_rarely(stand: Stand) -> None:
    stand.fails_to_start = True
    pauses = (1, 2, 4, 8, 16, 32, 60, 60)
    for pause in pauses:
        stand.fail()
        stand.check_pause(pause)
    assert np.diff(stand.starts) == pytest.approx([pause + 0.01 for pause in pauses[:-1]])


def test_a_picture_ends_the_growth_of_pauses(stand: Stand) -> None:
    stand.fails_to_start = True
    for pause in (1, 2, 4):
        stand.fail()
        stand.check_pause(pause)
    stand.fails_to_start = False
    stand.begin()
    stand.offer()
    wait_for(lambda: stand.published == 1)
    stand.fails_to_draw = True
    stand.now += 1
    stand.offer()
    wait_for(lambda: RendererTold("it fails to draw") in stand.events)
    failed = stand.now
    stand.check_pause(1)
    stand.events.clear()
    stand.begin()
    assert stand.starts[-1] == pytest.approx(failed + 1.01)
