"""The node: ROS messages in, ROS messages out, and a life cycle. It contains no model maths."""

import gc
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from re2pix_node.common.ending import report
from re2pix_node.common.wording import described, one_line
from re2pix_node.engines.session import engine_title
from re2pix_node.errors import BAD_INPUT, Re2pixError
from re2pix_node.pipeline.events import (
    Configuring,
    DrawingEnded,
    EngineLost,
    EngineReleased,
    EngineServes,
    EnginesTold,
    Event,
    FrameFailed,
    InputRefused,
    PictureFailed,
    StateEntered,
    TransitionRefused,
)
from re2pix_node.pipeline.live import LivePipeline
from re2pix_node.ros import qos
from re2pix_node.ros.declared import DeclaredParameters
from re2pix_node.ros.diagnostics import ACTIVE, Health
from re2pix_node.ros.event_log import EventLog, PrintableLogger
from re2pix_node.ros.frame_worker import FrameWorker
from re2pix_node.ros.loading import ModelLoading
from re2pix_node.ros.parameters import NodeSettings
from re2pix_node.ros.publishing import ForecastPublishers
from re2pix_node.ros.render_worker import RenderWorker
from re2pix_node.ros.requests import guard_services
from re2pix_node.ros.signals import ignore_signals, shut_down_on_signals
from re2pix_node.ros.spinning import SurvivingExecutor

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
TRANSPORTS = {"raw": Image, "compressed": CompressedImage}


class _ToRos(logging.Handler):
    """Passes the log of the engines to the log of ROS."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = PrintableLogger(logger)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())


class Re2pixNode(LifecycleNode):  # type: ignore[misc]
    """Takes camera frames and publishes forecasts. A worker thread does the work; callbacks only pass messages on."""

    def __init__(self) -> None:
        super().__init__("re2pix_node")
        self._health = Health()
        self._log = EventLog(self.get_logger())
        self._state = "unconfigured"
        self._fatal = ""  # reason why there will be no forecasts
        # Resources of a state, held until the state is left.
        self._configured = ExitStack()
        self._active = ExitStack()
        self._loading: ModelLoading | None = None
        self._outputs: ForecastPublishers | None = None
        self._worker: FrameWorker | None = None
        self._dropped = 0  # frames that newer ones overtook, in earlier activations
        self._renderer: RenderWorker | None = None  # only if the bundle can draw
        self._declared = DeclaredParameters(self, lambda: self._state == "unconfigured", self._change)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady: under use_sim_time the node's own clock may stop or jump, and then diagnostics are most needed.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._every_second, clock=self._steady)
        self._engine_lost = self.create_guard_condition(self._stop_without_engine)
        guard_services(self, self._tell)
        if self._declared.settings.autostart:
            self._starter = self.create_timer(0.0, self._start, clock=self._steady)

    def spin(self) -> None:
        """Run callbacks until ROS is shut down; an error in one of them costs only what it was called for."""
        executor = SurvivingExecutor(self._ignore)
        executor.add_node(self)
        try:
            executor.spin()
        finally:
            executor.shutdown(0)

    def stop(self) -> bool:
        """End everything; return False if something did not end in time and the process must not wait for it."""
        workers = [worker for worker in (self._worker, self._renderer) if worker]
        for worker in workers:
            worker.close()
        done = all(worker.wait(1.0) for worker in workers)
        return done and (self._loading is None or self._loading.wait(0))

    # --- life cycle ---------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._fatal = ""
        self._tell(Configuring())
        self._enter("configuring")
        try:
            with ExitStack() as held:
                loaded = self._configure(held)
                if loaded:
                    self._configured = held.pop_all()
        except Exception as error:  # the node stays up after any error and reports it
            self._enter("unconfigured")
            if not self.context.ok():  # a signal has shut ROS down
                return FAILURE
            return self._refuse(described(error))
        if not loaded:
            return FAILURE
        self._enter("inactive")
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._fatal = ""
        self._enter(ACTIVE)  # before the worker starts, because its engine may be lost with the first frame
        try:
            with ExitStack() as held:
                self._activate(held)
                self._active = held.pop_all()
        except Exception as error:  # invalid QoS overrides
            self._enter("inactive")
            return self._refuse(one_line(error))
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active.close()
        if self._fatal:
            return ERROR
        self._enter("inactive")
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._leave_for("unconfigured")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._leave_for("finalized")

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._leave_for("unconfigured")

    def _leave_for(self, state: str) -> TransitionCallbackReturn:
        self._active.close()
        self._configured.close()
        # rclpy's subscriptions and publishers hang in cycles with their event handlers, and the engine on them by their
        # callbacks. By itself the collector comes late, since it counts objects and not megabytes.
        gc.collect()
        self._enter(state)
        return SUCCESS

    def _enter(self, state: str) -> None:
        self._state = state
        self._tell(StateEntered(state))

    def _refuse(self, why: str) -> TransitionCallbackReturn:
        self._fatal = why
        self._tell(TransitionRefused(why))
        return FAILURE

    def _start(self) -> None:
        self._starter.cancel()
        if self._state == "unconfigured" and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _lose_engine(self, why: str) -> None:
        """Called in the worker's thread when no engine is left."""
        self._fatal = why
        self._tell(EngineLost(why))
        self._engine_lost.trigger()

    def _stop_without_engine(self) -> None:
        if self._state == ACTIVE:
            self.trigger_deactivate()  # it ends in the error state, because `_fatal` is set

    # --- resources of the states --------------------------------------------------------------------------------------

    def _configure(self, held: ExitStack) -> bool:
        """Load the model; return False if the process is asked to end meanwhile."""
        settings = self._declared.settings
        held.enter_context(_engines_logged(self.get_logger()))
        self._loading = ModelLoading(settings)
        held.callback(self._release)
        told = time.monotonic()
        while not self._loading.wait(0):
            self._answer_requests(0.05)
            if not self.context.ok():
                return False
            if time.monotonic() - told > 1:
                told = time.monotonic()
                self._publish_diagnostics()
        session = self._loading.result()
        self._tell(EngineServes(engine_title(session.engine), first_choice=True, instead=False))
        logger = PrintableLogger(self.get_logger())
        for attempt in session.attempts:
            if attempt.absent:
                logger.info(f"engine not available: {attempt}")
            elif attempt.fault:
                logger.warning(f"engine passed over: {attempt}")
        manifest = session.bundle.manifest
        logger.info(f"bundle {manifest.name} {manifest.version} on {session.attempts[-1]}")
        self._outputs = ForecastPublishers(self, session.bundle, settings, held)
        return True

    def _answer_requests(self, seconds: float) -> None:
        """Wait up to `seconds`, inside a callback, and answer requests meanwhile."""
        if self.executor:
            self.executor.spin_once(seconds)
        else:
            time.sleep(seconds)

    def _release(self) -> None:
        if self._loading:
            self._loading.close()
            if self._loading.wait(0):  # otherwise `stop` must know that it still runs
                self._loading = None
        self._outputs = None
        self._tell(EngineReleased())

    def _activate(self, held: ExitStack) -> None:
        assert self._loading is not None
        assert self._outputs is not None
        settings, session = self._declared.settings, self._loading.result()
        held.callback(self._tell, DrawingEnded())
        if session.bundle.manifest.render:
            self._renderer = RenderWorker(session.bundle, self._outputs, settings.threads, self._tell)
            held.callback(self._end_renderer)
        live = LivePipeline(session, settings.fit or None, settings.skill_window, self._tell)
        worker = self._worker = FrameWorker(
            live, self._outputs, self._renderer, settings, self._now, self._tell, self._lose_engine, self._dropped
        )
        held.callback(self._end_worker)
        inputs = {
            "~/input/camera_info": (CameraInfo, lambda message: setattr(worker, "camera_info", message)),
            "~/input/image": (TRANSPORTS[settings.image_transport], worker.put),
        }
        for topic, (kind, callback) in inputs.items():
            held.callback(self.destroy_subscription, qos.subscribe(self, kind, topic, callback, qos.CAMERA))

    def _end_worker(self) -> None:
        worker = self._worker
        assert worker is not None
        worker.close()
        # A frame takes a moment; an engine that is being reloaded takes longer.
        while not worker.wait(0.1) and self.context.ok():
            pass
        self._dropped = worker.dropped
        self._worker = None

    def _end_renderer(self) -> None:
        renderer = self._renderer
        assert renderer is not None
        renderer.close()
        renderer.wait(1.0)  # not longer: its process needs a processor to end, and gets one last of all
        self._renderer = None

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        nanoseconds: int = self.get_clock().now().nanoseconds
        return nanoseconds

    def _tell(self, event: Event) -> None:
        """Pass an event to diagnostics and to the log. Any thread may call this."""
        # Failures while ROS shuts down are not faults.
        if isinstance(event, FrameFailed | PictureFailed) and not self.context.ok():
            return
        self._health.take(event)
        self._log.take(event)

    def _ignore(self, source: str, error: Exception) -> None:
        self._tell(InputRefused(source, f"{source}: what arrived is ignored: {described(error)}"))

    def _change(self, settings: NodeSettings) -> None:
        if self._worker:
            self._worker.adopt(settings)

    def _every_second(self) -> None:
        if self._renderer:
            self._renderer.prepare()
        self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        session = self._loading.session if self._loading else None
        if session:
            self._tell(EnginesTold(session.passed_over, session.building()))
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [self._health.status(self.get_fully_qualified_name().lstrip("/"))]
        self._diagnostics.publish(array)


@contextmanager
def _engines_logged(logger: Any) -> Iterator[None]:
    """In this block the log of the engines goes to the log of ROS."""
    engines, handler = logging.getLogger("re2pix_node.engines"), _ToRos(logger)
    engines.setLevel(logging.INFO)
    engines.addHandler(handler)
    try:
        yield
    finally:
        engines.removeHandler(handler)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # ROS cannot read the arguments
        print(f"re2pix_node: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    node, code = None, 0
    shut_down_on_signals()
    try:
        node = Re2pixNode()
        node.spin()
    except ExternalShutdownException:
        pass
    except Re2pixError as error:
        print(f"re2pix_node: {error}", file=sys.stderr)
        code = BAD_INPUT
    except Exception as error:
        # A signal shuts ROS down while a callback may still be running, for example in publish() or in a transition.
        if rclpy.ok():
            code = report("re2pix_node", error)
    return _end(node, code)


def _end(node: Re2pixNode | None, code: int) -> int:
    ignore_signals()
    done = node is None or node.stop()
    if node:
        node.destroy_node()  # this also frees the node's shared memory
    rclpy.try_shutdown()
    if not done:
        # A model that is being loaded cannot be interrupted, and it still needs its libraries.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
