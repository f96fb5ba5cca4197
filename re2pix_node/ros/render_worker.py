"""The thread that has pictures of forecasts drawn, at a pace of its own. Forecasts never wait for it."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.base import one_line
from re2pix_node.errors import NotFiniteError, Re2pixError
from re2pix_node.pipeline.events import Counted, Event, PictureFailed, RendererTold, StagesTook
from re2pix_node.pipeline.mailbox import Mailbox
from re2pix_node.pipeline.pipeline import Observation
from re2pix_node.pipeline.rate_limit import RateLimit
from re2pix_node.render.process import RenderProcess
from re2pix_node.render.renderer import PictureScene
from re2pix_node.ros.publishing import ForecastPublishers

LOADING = "being loaded"
WARNED = 10.0  # s that diagnostics warn of a failure, at the least
# After a failure the process is started anew, after a pause (s) that doubles while it does not get a picture done.
PAUSE, LONGEST_PAUSE = 1.0, 60.0


@dataclass(frozen=True)
class PictureOrder:
    """A forecast whose pictures are wanted."""

    stamp: int
    horizons: tuple[int, ...]  # ns
    scenes: tuple[PictureScene, ...]  # nearest horizon first
    frame_id: str
    arrived: float  # the source frame, steady time


# Nothing to draw yet, but soon.
PREPARE = PictureOrder(0, (), (), "", 0.0)


class RenderWorker:
    """Forecasts in by `offer`, pictures out by topic. What goes wrong costs pictures, and is told in diagnostics."""

    def __init__(
        self, bundle: Bundle, outputs: ForecastPublishers, threads: int, tell: Callable[[Event], None]
    ) -> None:
        self._mailbox: Mailbox[PictureOrder] = Mailbox()
        self.rate = 0.0  # forecasts drawn in a second at the most; 0 draws none
        self._tell = tell
        self._bundle = bundle
        self._outputs = outputs
        self._threads = threads
        self._limit = RateLimit()
        self._process: RenderProcess | None = None
        self._not_before = 0.0  # steady time; infinite while the process loads
        self._pause = PAUSE
        self._took = 0.0  # s that the newest picture took
        self._closed = threading.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="re2pix renderer", daemon=True).start()

    def offer(self, observation: Observation, frame_id: str, arrived: float) -> None:
        """A forecast that has just been published. Taken if pictures of it are wanted now; never waits, never raises.

        Its scene may be copied from a GPU, so it is asked for once, and of few forecasts.
        """
        forecast = observation.forecast
        if forecast is None or not self._is_free():
            return
        try:
            wanted = self._outputs.wanted_pictures()
            if not wanted or not self._limit.takes(forecast.stamp, self.rate):
                return
            first = observation.scene(wanted[0])
            others = (replace(first, features=forecast.features[0, k - 1], horizon=k) for k in wanted[1:])
            self._put(PictureOrder(forecast.stamp, forecast.horizons, (first, *others), frame_id, arrived))
        except Exception as error:  # it is not the forecast's fault
            self._report(error)

    def prepare(self) -> None:
        """Has the process load as soon as somebody wants pictures. To be called now and then."""
        if self._process is None and self._is_free() and self._outputs.wanted_pictures():
            self._put(PREPARE)

    def held(self) -> AbstractContextManager[None]:
        """Nothing is drawn meanwhile."""
        process = self._process
        return process.held() if process else nullcontext()

    def close(self) -> None:
        """Nothing is drawn or published after this, but for what is being published."""
        self._closed.set()
        self._mailbox.close()
        process = self._process
        if process:
            process.kill()

    def wait(self, seconds: float) -> bool:
        """Whether the thread, and its process, ended within so long."""
        return self._ended.wait(seconds)

    def _put(self, order: PictureOrder) -> None:
        if self._mailbox.put(order):
            self._tell(Counted("pictures overtaken"))

    def _is_free(self) -> bool:
        return self.rate > 0 and time.monotonic() >= self._not_before

    def _run(self) -> None:
        try:
            while (order := self._mailbox.take()) is not None:
                self._survive(order)
        finally:
            self._end_process()
            self._ended.set()

    def _survive(self, order: PictureOrder) -> None:
        try:
            if self._process:
                self._draw_all(self._process, order)
            elif self._is_free():
                self._start_process()  # when it is ready, there are fresher forecasts than this one
        except Exception as error:
            self._not_before = time.monotonic() + self._pause
            self._end_process()
            self._report(error, self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _start_process(self) -> None:
        if self._closed.is_set():
            return
        self._not_before = float("inf")
        self._tell(RendererTold(LOADING))
        self._process = RenderProcess(self._bundle, self._threads)
        if self._closed.is_set():  # which may have found no process to kill
            self._process.kill()
        name = self._process.ready()
        self._not_before = 0.0
        self._tell(RendererTold(name, draws=True))

    def _end_process(self) -> None:
        if self._process:
            self._process.close()
            self._process = None

    def _draw_all(self, process: RenderProcess, order: PictureOrder) -> None:
        for i, scene in enumerate(order.scenes, start=1):
            # If no picture can be in time the last one is drawn all the same: the next may take less.
            takes = self._took if i < len(order.scenes) else 0.0
            if self._closed.is_set():
                return
            if _is_late(order, scene.horizon, takes):
                self._tell(Counted("pictures late"))
                continue
            try:
                self._draw(process, order, scene)
            except NotFiniteError as error:  # the others may be well
                self._report(error)

    def _draw(self, process: RenderProcess, order: PictureOrder, scene: PictureScene) -> None:
        begun = time.monotonic()
        picture = process.draw(scene)
        self._took = time.monotonic() - begun
        self._tell(StagesTook({"render": self._took}))
        self._pause = PAUSE
        if self._closed.is_set():
            return
        if _is_late(order, scene.horizon):
            self._tell(Counted("pictures late"))
            return
        self._outputs.publish_picture(order.stamp, scene.horizon, picture, order.frame_id)
        self._tell(Counted("pictures drawn"))

    def _report(self, error: Exception, pause: float = 0.0) -> None:
        if self._closed.is_set():  # what fails while it is ended is no fault
            return
        known = isinstance(error, Re2pixError)
        message = one_line(error) if known else f"{type(error).__name__}: {one_line(error)}"
        self._tell(PictureFailed(message, pause + WARNED))
        if pause:
            self._tell(RendererTold(message))


def _is_late(order: PictureOrder, k: int, takes: float = 0.0) -> bool:
    """Whether the moment that a picture shows is over, or will be when it has been drawn."""
    return time.monotonic() + takes - order.arrived > order.horizons[k] / NANOSECONDS
