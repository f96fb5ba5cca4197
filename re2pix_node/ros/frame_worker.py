"""The thread that does the work: takes the newest frame, makes a forecast of it, and publishes that."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines import EngineSupply
from re2pix_node.engines.base import Engine, one_line
from re2pix_node.errors import EngineError, ImageError, NotFiniteError, Re2pixError
from re2pix_node.imaging.decode import Picture, decode
from re2pix_node.pipeline.buffer import Arrival
from re2pix_node.pipeline.mailbox import Mailbox
from re2pix_node.pipeline.messages import Circumstances, stamp_of
from re2pix_node.pipeline.pipeline import Forecast, NoForecast, Observation, Pipeline, timing_of
from re2pix_node.pipeline.rate_limit import CLOCKS, RateLimit
from re2pix_node.pipeline.skill import LiveSkill
from re2pix_node.ros.diagnostics import TOTAL, Health
from re2pix_node.ros.parameters import NodeSettings
from re2pix_node.ros.publishing import ForecastPublishers
from re2pix_node.ros.render_worker import RenderWorker

# How long a log line about frames keeps quiet (s): a camera sends the same fault thirty times a second.
QUIET = 10.0


@dataclass(frozen=True)
class Arrived:
    """A frame as it came in, with the steady time of its arrival."""

    message: Any
    at: float


@dataclass
class LoadedModel:
    """A bundle that has been loaded, and the engine in use, which has proved itself on it."""

    bundle: Bundle
    supply: EngineSupply
    engine: Engine


class FrameWorker:
    """Frames in by `put`, forecasts out by topic. Nothing that is wrong with a frame ends it; a lost engine does."""

    def __init__(
        self,
        node: Node,
        health: Health,
        model: LoadedModel,
        outputs: ForecastPublishers,
        renderer: RenderWorker | None,
        settings: NodeSettings,
        lost: Callable[[], None],
    ) -> None:
        """`lost` is called, from the worker's thread, when no engine is left; `health.fatal` then says why."""
        self.mailbox: Mailbox[Arrived] = Mailbox()
        self.camera_info: Any = None  # the newest CameraInfo
        self._node = node
        self._health = health
        self._model = model
        self._outputs = outputs
        self._renderer = renderer
        self._lost = lost
        self._pipeline = Pipeline(model.bundle, model.engine, settings.fit or None)
        spec = model.bundle.manifest.time
        window = round(settings.skill_window * NANOSECONDS)
        self._skill = LiveSkill(len(spec.horizons), window, timing_of(spec).jitter)
        self._rate = RateLimit()
        self.adopt(settings)
        self._shape: tuple[int, int, str] | None = None
        self._quiet_until: dict[str, float] = {}  # by kind of fault, steady time
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="re2pix worker", daemon=True).start()

    def put(self, message: Any) -> None:
        """A frame has come in. Called by the executor, which must not wait."""
        age = (self._node.get_clock().now().nanoseconds - stamp_of(message.header)) / NANOSECONDS
        self._health.received(age)
        self.mailbox.put(Arrived(message, time.monotonic()))

    def adopt(self, settings: NodeSettings) -> None:
        """Live parameters, as they are now."""
        self.settings = settings
        spec = self._model.bundle.manifest
        if 0 < settings.max_rate * (1 + CLOCKS) < 1 / spec.time.stride_max:
            self._node.get_logger().warning(
                f"max_rate {settings.max_rate:g} leaves frames too far apart: {spec.name} takes frames at most "
                f"{spec.time.stride_max:g} s apart, which is {1 / spec.time.stride_max:.1f} Hz"
            )
        if self._renderer:
            self._renderer.rate = settings.render_rate
        elif settings.render_rate > 0 and not self._health.renderer:
            self._health.renderer = f"{spec.name} cannot draw pictures: it has no render graph"
            self._node.get_logger().warning(f"render_rate has no effect: {self._health.renderer}")

    def close(self) -> None:
        """No frame is begun after this."""
        self.mailbox.close()

    def wait(self, seconds: float) -> bool:
        """Whether the frame in work was finished within so long."""
        # Not by joining the thread: a join that a signal interrupts takes the thread for ended (Python issue 45274).
        return self._ended.wait(seconds)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()

    def _work(self) -> None:
        while (arrived := self.mailbox.take()) is not None:
            if not self._survive(arrived):
                return

    def _survive(self, arrived: Arrived) -> bool:
        """Whether there is an engine to go on with, whatever the frame did."""
        try:
            with self._renderer.held() if self._renderer else nullcontext():
                self._handle(arrived)
        except ImageError as error:
            self._health.count("frames undecodable")
            self._report("undecodable", one_line(error))
        except NotFiniteError as error:
            self._report("not finite", one_line(error))
        except EngineError as error:
            return self._next_engine(one_line(error))
        except Exception as error:  # the node stays up
            self._report("unforeseen", f"{type(error).__name__}: {one_line(error)}")
        return True

    def _handle(self, arrived: Arrived) -> None:
        """One frame, from message to published forecast."""
        self._take_upgrade()
        taken = time.monotonic()
        message, settings = arrived.message, self.settings
        stamp = stamp_of(message.header)
        refused = self._refusal(stamp, settings)
        if refused:
            self._health.count(refused)
            return
        picture = decode(message)
        decoded = time.monotonic()
        self._tell_change(picture, getattr(message, "encoding", ""))
        self._pipeline.seed = settings.seed
        observation = self._pipeline.observe(picture, stamp)
        forecast = observation.forecast
        self._tell_arrival(observation)
        seconds = {"wait": taken - arrived.at, "decode": decoded - taken, **observation.seconds}
        if forecast is None:
            repeated = observation.missing is NoForecast.REPEATED
            self._health.count("frames repeated" if repeated else "frames without context")
        else:
            self._publish(forecast, message.header.frame_id, arrived.at, taken, seconds)
        self._health.took(seconds)
        # What follows is not urgent: the forecast is out.
        if forecast is not None and self._renderer:
            self._renderer.offer(observation, message.header.frame_id, arrived.at)
        self._judge(observation)
        if forecast is not None:
            self._publish_views(forecast, picture, message.header.frame_id)

    def _refusal(self, stamp: int, settings: NodeSettings) -> str:
        """What a frame that is not to be used is counted as."""
        if stamp == 0:
            return "frames unstamped"
        age = self._node.get_clock().now().nanoseconds - stamp
        if settings.max_age and age > settings.max_age * NANOSECONDS:
            return "frames too old"
        return "" if self._rate.takes(stamp, settings.max_rate) else "frames over max_rate"

    def _publish(
        self,
        forecast: Forecast,
        frame_id: str,
        arrived: float,
        taken: float,
        seconds: dict[str, float],
    ) -> None:
        begun = time.monotonic()
        made = Circumstances(
            engine=f"{self._model.engine.name} {self._model.engine.precision}",
            frame_id=frame_id,
            # A camera's clock may run a little ahead of ours; an age below zero has no meaning for a planner.
            age=max(0, self._node.get_clock().now().nanoseconds - forecast.stamp),
            processing_time=round(NANOSECONDS * (begun - taken)),
            frames_dropped=self.mailbox.overtaken,
            skill=self._skill.values(),
        )
        self._outputs.publish(forecast, made)
        done = time.monotonic()
        seconds |= {"publish": done - begun, TOTAL: done - arrived}
        self._health.count("forecasts published")

    def _judge(self, observation: Observation) -> None:
        """Scores the forecasts that were made for this moment, and remembers the new one."""
        forecast = observation.forecast
        if observation.features is not None:
            self._skill.observe(observation.stamp, observation.features)
        if forecast is not None:
            self._skill.predict(forecast.stamp, forecast.predicted_stamps[1:], forecast.features[0], forecast.observed)
        self._health.skill = self._skill.values()

    def _publish_views(self, forecast: Forecast, picture: Picture, frame_id: str) -> None:
        if self.camera_info is not None:
            try:
                self._outputs.publish_camera_info(self.camera_info, forecast, frame_id)
            except Re2pixError as error:
                self._node.get_logger().warning(one_line(error), throttle_duration_sec=QUIET)
        self._outputs.preview_rate = self.settings.preview_rate
        self._outputs.publish_preview(picture, forecast, frame_id)

    def _take_upgrade(self) -> None:
        """Between two frames: a better engine may have been built meanwhile."""
        engine = self._model.supply.upgraded()
        if engine:
            self._go_on_with(engine, keep=True)
            self._health.first_choice = True

    def _next_engine(self, fault: str) -> bool:
        """Whether there is an engine to go on with after one has failed."""
        self._health.error(fault)
        self._health.count("engine restarts")
        self._node.get_logger().error(f"{fault}; loading an engine anew")
        try:
            self._go_on_with(self._model.supply.replace(fault), keep=False)
        except Exception as error:  # the bundle may have gone as well
            spent = isinstance(error, EngineError)
            self._health.fatal = f"no engine is left to go on with: {fault}" if spent else one_line(error)
            self._node.get_logger().fatal(self._health.fatal)
            self._lost()
            return False
        return True

    def _go_on_with(self, engine: Engine, keep: bool) -> None:
        self._pipeline.use(engine, keep)
        self._model.engine = engine
        name = f"{engine.name} {engine.precision} ({engine.version})"
        self._health.first_choice = self._health.first_choice and name == self._health.engine
        self._health.engine = name
        if not keep:
            self._skill.forget()
        self._node.get_logger().warning(f"going on with {name}")

    def _tell_change(self, picture: Picture, encoding: str) -> None:
        height, width = picture.shape[:2]
        shape = (width, height, encoding)
        if self._shape not in (None, shape):
            before, after = (" ".join(f"{w}x{h} {e}".split()) for w, h, e in (self._shape, shape))
            self._node.get_logger().info(f"frames change from {before} to {after}")
            # Features of differently cut frames do not lie on one another.
            if self._shape[:2] != shape[:2]:
                self._skill.forget()
        self._shape = shape

    def _tell_arrival(self, observation: Observation) -> None:
        arrival = observation.arrival
        if arrival is Arrival.IN_ORDER:
            return
        if arrival is not Arrival.REPEATED:
            self._skill.forget()
        if not self._quiet(arrival.name):
            self._node.get_logger().warning(f"frame stamped {observation.stamp / NANOSECONDS:.3f} s {arrival.value}")

    def _report(self, kind: str, message: str) -> None:
        if not self._node.context.ok():  # what fails while ROS is taken from under us is no fault
            return
        self._health.error(message)
        if not self._quiet(kind):
            self._node.get_logger().error(message)

    def _quiet(self, kind: str) -> bool:
        """Whether of this kind of fault enough was said just now. rclpy's throttle would count by line of code, and
        one fault silence another."""
        now = time.monotonic()
        if now < self._quiet_until.get(kind, 0.0):
            return True
        self._quiet_until[kind] = now + QUIET
        return False
