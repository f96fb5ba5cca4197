"""The node is a door: ROS messages in, ROS messages out, and a life cycle. No model maths here."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from re2pix_node.bundle.locate import bundle_folder
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.engines import EngineSupply
from re2pix_node.engines.base import one_line
from re2pix_node.errors import BAD_INPUT, Re2pixError
from re2pix_node.ros import qos
from re2pix_node.ros.declared import DeclaredParameters
from re2pix_node.ros.diagnostics import ACTIVE, Health
from re2pix_node.ros.frame_worker import FrameWorker, LoadedModel
from re2pix_node.ros.parameters import NodeSettings
from re2pix_node.ros.publishing import ForecastPublishers
from re2pix_node.ros.render_worker import RenderWorker

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
TRANSPORTS = {"raw": Image, "compressed": CompressedImage}


class _ToRos(logging.Handler):
    """What the engines log, into the log of ROS."""

    def __init__(self, node: LifecycleNode) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())


class Re2pixNode(LifecycleNode):  # type: ignore[misc]
    """Takes camera frames and publishes forecasts. A worker thread does all the work; callbacks only hand over."""

    def __init__(self) -> None:
        super().__init__("re2pix_node")
        engines = logging.getLogger("re2pix_node.engines")
        engines.setLevel(logging.INFO)
        engines.addHandler(_ToRos(self))
        self._health = Health()
        self._model: LoadedModel | None = None
        self._supply: EngineSupply | None = None  # the model's, or that of the one being loaded
        self._outputs: ForecastPublishers | None = None
        self._worker: FrameWorker | None = None
        self._renderer: RenderWorker | None = None  # beside the worker, when the bundle can draw
        self._inputs: list[Any] = []
        self._overtaken = self._pictures_overtaken = 0  # in the workers before these
        self._loading: Future[LoadedModel] | None = None
        self._declared = DeclaredParameters(self, lambda: self._health.state == "unconfigured", self._change)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady: under use_sim_time the node's own clock may stop or jump, and just then people look at diagnostics.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._every_second, clock=self._steady)
        self._engine_lost = self.create_guard_condition(self._stop_without_engine)
        if self._declared.settings.autostart:
            self._starter = self.create_timer(0.0, self._start, clock=self._steady)

    def stop(self) -> bool:
        """Ends what still runs; False when something did not end in time and the process must not wait for it."""
        workers = [worker for worker in (self._worker, self._renderer) if worker]
        for worker in workers:
            worker.close()
        done = all(worker.wait(1.0) for worker in workers)
        return done and (self._loading is None or self._loading.done())

    # --- life cycle ---------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._health.fatal = ""
        self._health.state = "configuring"
        settings = self._declared.settings
        try:
            self._model = self._load(settings)
            if self._model is None:
                return FAILURE
            self._outputs = ForecastPublishers(self, self._model.bundle, settings)
        except Exception as error:  # the node stays up and says what happened, whatever it is
            self._release()
            self._health.state = "unconfigured"
            if not self.context.ok():  # a signal took ROS from under us
                return FAILURE
            known = isinstance(error, Re2pixError)
            return self._refuse(one_line(error) if known else f"{type(error).__name__}: {one_line(error)}")
        self._health.state = "inactive"
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._model is not None
        assert self._outputs is not None
        settings = self._declared.settings
        bundle = self._model.bundle
        if bundle.manifest.render:
            self._renderer = RenderWorker(self, self._health, bundle, self._outputs, settings.threads)
        worker = self._worker = FrameWorker(
            self, self._health, self._model, self._outputs, self._renderer, settings, self._engine_lost.trigger
        )
        try:
            self._subscribe(CameraInfo, "~/input/camera_info", lambda message: setattr(worker, "camera_info", message))
            self._subscribe(TRANSPORTS[settings.image_transport], "~/input/image", worker.put)
        except Exception as error:  # QoS overrides that make no sense
            self._stop_work()
            return self._refuse(one_line(error))
        self._health.fatal = ""
        self._health.state = ACTIVE
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        if self._health.fatal:
            return ERROR
        self._health.state = "inactive"
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        self._health.state = "unconfigured"
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        self._release()
        self._health.state = "finalized"
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        self._release()
        self._health.state = "unconfigured"
        return SUCCESS

    def _start(self) -> None:
        self._starter.cancel()
        if self._health.state == "unconfigured" and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _stop_without_engine(self) -> None:
        if self._health.state == ACTIVE:
            self.trigger_deactivate()  # which ends in the error state, as `fatal` is set

    def _refuse(self, why: str) -> TransitionCallbackReturn:
        self._health.fatal = why
        self.get_logger().error(why)
        return FAILURE

    # --- what the states hold -----------------------------------------------------------------------------------------

    def _load(self, settings: NodeSettings) -> LoadedModel | None:
        """The model, loaded in a thread: signals and diagnostics go on. None when the process is asked to end."""
        future: Future[LoadedModel] = Future()
        self._loading = future

        def load() -> None:
            try:
                future.set_result(self._open(settings))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=load, name="re2pix loader", daemon=True).start()
        # Not by joining the thread: a join that a signal interrupts takes the thread for ended (Python issue 45274).
        told = 0.0
        while not wait([future], timeout=0.05).done:
            if not self.context.ok():
                return None
            if time.monotonic() - told > 1:
                told = time.monotonic()
                self._publish_diagnostics()
        model = future.result()
        self._health.engine = f"{model.engine.name} {model.engine.precision} ({model.engine.version})"
        self._health.first_choice = True
        for attempt in model.supply.attempts:
            if attempt.absent:
                self.get_logger().info(f"engine not here: {attempt}")
            elif attempt.fault:
                self.get_logger().warning(f"engine passed over: {attempt}")
        manifest = model.bundle.manifest
        self.get_logger().info(f"bundle {manifest.name} {manifest.version} on {model.supply.attempts[-1]}")
        return model

    def _open(self, settings: NodeSettings) -> LoadedModel:
        if not settings.bundle:
            raise Re2pixError(
                "the parameter 'bundle' is empty: give the folder of a bundle, as in -p bundle:=models/NAME"
            )
        bundle = read_bundle(bundle_folder(settings.bundle))
        supply = EngineSupply(bundle, settings.engine, settings.precision, settings.threads, background=True)
        self._supply = supply
        return LoadedModel(bundle, supply, supply.next())

    def _subscribe(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        self._inputs.append(qos.subscribe(self, kind, topic, callback, qos.CAMERA))

    def _stop_work(self) -> None:
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())
        if self._worker:
            self._finish(self._worker)
            self._overtaken += self._worker.mailbox.overtaken
            self._worker = None
        if self._renderer:
            self._renderer.close()
            self._renderer.wait(1.0)  # not for ever: its process needs a processor to end, and gets one last of all
            self._pictures_overtaken += self._renderer.mailbox.overtaken
            self._renderer = None
        self._health.drawing_ends()

    def _finish(self, worker: FrameWorker) -> None:
        worker.close()
        # A frame takes a moment, an engine that is being loaded anew takes longer.
        while not worker.wait(0.1) and self.context.ok():
            pass

    def _release(self) -> None:
        if self._outputs:
            self._outputs.destroy()
        if self._supply:
            self._supply.close()
        self._outputs = self._model = self._supply = None
        self._health.engine = self._health.building = ""

    def _change(self, settings: NodeSettings) -> None:
        if self._worker:
            self._worker.adopt(settings)

    def _every_second(self) -> None:
        if self._renderer:
            self._renderer.prepare()
        self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        overtaken = self._overtaken + (self._worker.mailbox.overtaken if self._worker else 0)
        pictures = self._pictures_overtaken + (self._renderer.mailbox.overtaken if self._renderer else 0)
        if self._supply:
            self._health.passed_over, self._health.building = self._supply.passed_over, self._supply.building()
        array.status = [self._health.status(self.get_fully_qualified_name().lstrip("/"), overtaken, pictures)]
        self._diagnostics.publish(array)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        rclpy.init(args=arguments)
    except Exception as error:  # arguments that ROS cannot read
        print(f"re2pix_node: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    node, code = None, 0
    try:
        node = Re2pixNode()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Re2pixError as error:
        print(f"re2pix_node: {error}", file=sys.stderr)
        code = BAD_INPUT
    except Exception:
        # A signal shuts ROS down under whatever a callback is doing, a publisher's publish() or a transition for one.
        if rclpy.ok():
            raise
    return _end(node, code)


def _end(node: Re2pixNode | None, code: int) -> int:
    # It is ending: a second Ctrl-C must not break into that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    done = node is None or node.stop()
    if node:
        node.destroy_node()  # which also gives the node's shared memory back
    rclpy.try_shutdown()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which rclpy has set back
    if not done:
        # A model that is being loaded cannot be interrupted, and must not find its libraries gone under it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
