"""The thread that has pictures of forecasts drawn, at its own pace. Forecasts never wait for it."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import Bundle
from re2pix_node.common.wording import described
from re2pix_node.errors import NotFiniteError
from re2pix_node.pipeline.events import Counted, Event, PictureFailed, RendererTold, StagesTook
from re2pix_node.pipeline.mailbox import Mailbox
from re2pix_node.pipeline.pipeline import Observation
from re2pix_node.pipeline.rate_limit import RateLimit
from re2pix_node.render.process import RenderProcess
from re2pix_node.render.renderer import PictureScene
from re2pix_node.ros.publishing import ForecastPublishers

LOADING = "being loaded"
WARNED = 10.0  # minimum s for which diagnostics warn of a failure
# After a failure the process is restarted after a pause (s), which doubles while no picture succeeds.
PAUSE, LONGEST_PAUSE = 1.0, 60.0


@dataclass(frozen=True)
class PictureOrder:
    """A forecast and its pictures to draw."""

    stamp: int
    horizons: tuple[int, ...]  # ns
    scenes: tuple[PictureScene, ...]  # nearest horizon first
    frame_id: str
    arrived: float  # arrival of the source frame, steady time


# Placeholder: nothing to draw yet, but soon.
PREPARE = PictureOrder(0, (), (), "", 0.0)


class RenderWorker:
    """Forecasts in by `offer`, pictures out by topic. A fault costs only pictures and appears in diagnostics."""

    def __init__(
        self, bundle: Bundle, outputs: ForecastPublishers, threads: int, tell: Callable[[Event], None]
    ) -> None:
        self._mailbox: Mailbox[PictureOrder] = Mailbox()
        self.rate = 0.0  # maximum forecasts drawn in a second; 0 draws none
        self._tell = tell
        self._bundle = bundle
        self._outputs = outputs
        self._threads = threads
        self._limit = RateLimit()
        self._process: RenderProcess | None = None
        self._not_before = 0.0  # steady time; infinite while the process loads
        self._pause = PAUSE
        self._took = 0.0  # s for the newest picture
        self._closed = threading.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="re2pix renderer", daemon=True).start()

    def offer(self, observation: Observation, frame_id: str, arrived: float) -> None:
        """Offer a forecast that has just been published. It is taken if its pictures have subscribers and are due. This
        never waits and never raises.

        A scene may be copied from a GPU, so it is fetched once, and only for few forecasts.
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
        except Exception as error:  # must not affect forecasts
            self._report(error)

    def prepare(self) -> None:
        """Start the process as soon as pictures have a subscriber. Call this from time to time."""
        if self._process is None and self._is_free() and self._outputs.wanted_pictures():
            self._put(PREPARE)

    def held(self) -> AbstractContextManager[None]:
        """In this block nothing is drawn."""
        process = self._process
        return process.held() if process else nullcontext()

    def close(self) -> None:
        """Draw and publish nothing after this, except for a picture that is just being published."""
        self._closed.set()
        self._mailbox.close()
        process = self._process
        if process:
            process.kill()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; return True if the thread and its process have ended."""
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
                self._start_process()  # when it is ready, there will be newer forecasts than this one
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
        if self._closed.is_set():  # `close` may have found no process to kill
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
            # If no picture can be in time, the last one is drawn anyway: the next may be faster.
            takes = self._took if i < len(order.scenes) else 0.0
            if self._closed.is_set():
                return
            if _is_late(order, scene.horizon, takes):
                self._tell(Counted("pictures late"))
                continue
            try:
                self._draw(process, order, scene)
            except NotFiniteError as error:  # the other pictures may be good
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
        if self._closed.is_set():  # a failure while it is ended is not a fault
            return
        message = described(error)
        self._tell(PictureFailed(message, pause + WARNED))
        if pause:
            self._tell(RendererTold(message))


def _is_late(order: PictureOrder, k: int, takes: float = 0.0) -> bool:
    """Whether the moment of a picture has passed, or will have passed when the picture is drawn."""
    return time.monotonic() + takes - order.arrived > order.horizons[k] / NANOSECONDS
