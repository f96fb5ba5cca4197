"""The worker thread: encodes the frames that contexts need, forecasts from the newest, and publishes."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.common.wording import described, one_line
from re2pix_node.errors import EngineError, ImageError, OutputError, Re2pixError, StampError
from re2pix_node.imaging.decode import Picture, decode
from re2pix_node.pipeline.buffer import Arrival
from re2pix_node.pipeline.events import (
    Counted,
    Doubt,
    Event,
    FrameFailed,
    FrameReceived,
    FramesChanged,
    RendererTold,
    StagesTook,
    StampBroke,
)
from re2pix_node.pipeline.frame_plan import FramePlan
from re2pix_node.pipeline.live import LivePipeline
from re2pix_node.pipeline.mailbox import Mailbox
from re2pix_node.pipeline.messages import Circumstances, stamp_of
from re2pix_node.pipeline.pipeline import Forecast, NoForecast, timing_of
from re2pix_node.pipeline.rate_limit import CLOCKS, RateLimit
from re2pix_node.ros.diagnostics import TOTAL
from re2pix_node.ros.parameters import NodeSettings
from re2pix_node.ros.publishing import ForecastPublishers
from re2pix_node.ros.render_worker import RenderWorker

WAITING = 4  # frames that may wait: a pause of so many costs their forecasts, but no context
MISSING = {
    NoForecast.REPEATED: "frames repeated",
    NoForecast.NO_CONTEXT: "frames without context",
    NoForecast.SKIPPED: "forecasts skipped",
}


@dataclass(frozen=True)
class Arrived:
    """A received frame, with the steady time of its arrival."""

    message: Any
    at: float


class FrameWorker:
    """Frames in by `put`, forecasts out by topic. A faulty frame never ends it; a lost engine does."""

    def __init__(
        self,
        live: LivePipeline,
        outputs: ForecastPublishers,
        renderer: RenderWorker | None,
        settings: NodeSettings,
        now: Callable[[], int],
        tell: Callable[[Event], None],
        lost: Callable[[str], None],
        dropped: int = 0,
    ) -> None:
        """`now` is the node's clock, ns. `lost` is called with the reason, from this thread, when no engine is left.

        For `dropped` frames there was no time in earlier activations.
        """
        self.camera_info: Any = None  # the newest CameraInfo
        self._mailbox: Mailbox[Arrived] = Mailbox(WAITING)
        self._plan = FramePlan(timing_of(live.session.bundle.manifest.time))
        self._dropped_before, self._skipped = dropped, 0
        self._newest = 0  # stamp of the newest frame received
        self._live = live
        self._outputs = outputs
        self._renderer = renderer
        self._now = now
        self._tell = tell
        self._lost = lost
        self._rate = RateLimit()
        self._told_of_renderer = False
        self.adopt(settings)
        self._kind: tuple[int, int, str] | None = None  # width, height and encoding of the frames
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="re2pix worker", daemon=True).start()

    def put(self, message: Any) -> None:
        """Store a received frame. The executor calls this and must not wait."""
        stamp = stamp_of(message.header)
        self._tell(FrameReceived((self._now() - stamp) / NANOSECONDS))
        unwanted = self._unwanted(stamp)
        if unwanted:
            self._tell(Counted(unwanted))
        elif self._mailbox.put(Arrived(message, time.monotonic())):
            self._tell(Counted("frames overtaken"))

    @property
    def dropped(self) -> int:
        """Frames since the node started for which there was no time."""
        return self._dropped_before + self._mailbox.overtaken + self._skipped

    def adopt(self, settings: NodeSettings) -> None:
        """Adopt the present values of the live parameters."""
        self._settings = settings
        spec = self._live.session.bundle.manifest
        if 0 < settings.max_rate * (1 + CLOCKS) < 1 / spec.time.stride_max:
            self._tell(
                Doubt(
                    f"max_rate {settings.max_rate:g} leaves frames too far apart: {spec.name} takes frames at most "
                    f"{spec.time.stride_max:g} s apart, which is {1 / spec.time.stride_max:.1f} Hz"
                )
            )
        if self._renderer:
            self._renderer.rate = settings.render_rate
        elif settings.render_rate > 0 and not self._told_of_renderer:
            self._told_of_renderer = True
            why = f"{spec.name} cannot draw pictures: it has no render graph"
            self._tell(RendererTold(why))
            self._tell(Doubt(f"render_rate has no effect: {why}"))

    def close(self) -> None:
        """Start no frame after this."""
        self._mailbox.close()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the worker to end; return True if it did."""
        # Not by joining the thread: after an interrupted join Python treats the thread as ended (Python issue 45274).
        return self._ended.wait(seconds)

    def _run(self) -> None:
        try:
            while (arrived := self._mailbox.take()) is not None:
                if not self._survive(arrived):
                    return
        finally:
            self._ended.set()

    def _survive(self, arrived: Arrived) -> bool:
        """Handle a frame and survive any fault of it; return whether there is an engine to continue with."""
        try:
            with self._renderer.held() if self._renderer else nullcontext():
                self._handle(arrived)
        except ImageError as error:
            self._tell(Counted("frames undecodable"))
            self._tell(FrameFailed("undecodable", one_line(error)))
        except OutputError as error:
            self._tell(FrameFailed("not publishable", one_line(error)))
        except StampError as error:
            self._tell(FrameFailed("stamp", one_line(error)))
        except EngineError as error:
            return self._recover(one_line(error))
        except Exception as error:  # the node stays up
            self._tell(FrameFailed("unforeseen", described(error)))
        return True

    def _handle(self, arrived: Arrived) -> None:
        """One frame, from message to published forecast."""
        taken = time.monotonic()
        message, settings = arrived.message, self._settings
        stamp = stamp_of(message.header)
        if settings.max_age and self._now() - stamp > settings.max_age * NANOSECONDS:
            self._tell(Counted("frames too old"))
            return
        picture = decode(message, settings.max_pixels)
        decoded = time.monotonic()
        self._compare(picture, getattr(message, "encoding", ""))
        observation = self._live.observe(picture, stamp, settings.seed, self._plan.forecasts(self._mailbox.holds_any()))
        encoded = time.monotonic() - observation.seconds.get("forecast", 0.0)
        if observation.arrival is not Arrival.IN_ORDER:
            self._tell(StampBroke(stamp, observation.arrival))
        forecast, frame_id = observation.forecast, message.header.frame_id
        seconds = {"wait": taken - arrived.at, "decode": decoded - taken, **observation.seconds}
        if forecast is not None:
            self._publish(forecast, frame_id, arrived.at, taken, seconds)
        elif observation.missing is not None:
            self._tell(Counted(MISSING[observation.missing]))
        self._tell(StagesTook(seconds))
        # The rest is not urgent: the forecast is published.
        if self._renderer:
            self._renderer.offer(observation, frame_id, arrived.at)
        self._live.judge(observation)
        if forecast is not None:
            self._publish_views(forecast, picture, frame_id)
        self._plan.took(encoded - taken, time.monotonic() - encoded if forecast is not None else None)

    def _unwanted(self, stamp: int) -> str:
        """The count under which a frame is left aside; empty if it is wanted."""
        if stamp == 0:
            return "frames unstamped"
        before, self._newest = self._newest, stamp
        if stamp == before:
            self._tell(StampBroke(stamp, Arrival.REPEATED))
            return MISSING[NoForecast.REPEATED]
        if not self._rate.takes(stamp, self._settings.max_rate):
            return "frames over max_rate"
        if self._plan.wants(stamp):
            return ""
        self._skipped += 1
        return "frames skipped"

    def _publish(
        self, forecast: Forecast, frame_id: str, arrived: float, taken: float, seconds: dict[str, float]
    ) -> None:
        begun = time.monotonic()
        engine = self._live.session.engine
        made = Circumstances(
            engine=f"{engine.name} {engine.precision}",
            frame_id=frame_id,
            # A camera's clock may be slightly ahead of ours; a negative age has no meaning for a planner.
            age=max(0, self._now() - forecast.stamp),
            processing_time=round(NANOSECONDS * (begun - taken)),
            frames_dropped=self.dropped,
            skill=self._live.skill(),
        )
        self._outputs.publish(forecast, made)
        done = time.monotonic()
        seconds |= {"publish": done - begun, TOTAL: done - arrived}
        self._tell(Counted("forecasts published"))

    def _publish_views(self, forecast: Forecast, picture: Picture, frame_id: str) -> None:
        if self.camera_info is not None:
            try:
                self._outputs.publish_camera_info(self.camera_info, forecast, frame_id)
            except Re2pixError as error:
                self._tell(Doubt(one_line(error)))
        self._outputs.preview_rate = self._settings.preview_rate
        self._outputs.publish_preview(picture, forecast, frame_id)

    def _recover(self, fault: str) -> bool:
        """Change to another engine after a failure; return whether there is one to continue with."""
        try:
            self._live.recover(fault)
        except Exception as error:  # the bundle may have disappeared too
            spent = isinstance(error, EngineError)
            self._lost(f"no engine is left to continue with: {fault}" if spent else one_line(error))
            return False
        return True

    def _compare(self, picture: Picture, encoding: str) -> None:
        """Report when size or encoding of the frames changes."""
        height, width = picture.shape[:2]
        before, self._kind = self._kind, (width, height, encoding)
        if before not in (None, self._kind):
            told = [" ".join(f"{w}x{h} {e}".split()) for w, h, e in (before, self._kind)]
            self._tell(FramesChanged(*told))
