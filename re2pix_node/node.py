"""The node is a door: ROS messages in, ROS messages out. No model maths here."""

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from re2pix_msgs.msg import FeatureMap
from re2pix_msgs.msg import Forecast as ForecastMessage
from sensor_msgs.msg import CompressedImage, Image

from re2pix_node.buffer import Arrival
from re2pix_node.bundle import Bundle, read_bundle
from re2pix_node.diagnostics import Health
from re2pix_node.engines import ENGINES, PRECISIONS, open_engine
from re2pix_node.engines.base import Engine, one_line
from re2pix_node.errors import ImageError, Re2pixError
from re2pix_node.geometry import FITS
from re2pix_node.images import decode
from re2pix_node.mailbox import Mailbox
from re2pix_node.messages import (
    Circumstances,
    forecast_message,
    output_messages,
    output_names,
    ros_types,
    stamp_of,
)
from re2pix_node.pipeline import Forecast, Pipeline
from re2pix_node.shipped import DEFAULT_BUNDLE, bundle_folder

TRANSPORTS = {"raw": Image, "compressed": CompressedImage}

# name, default, description
PARAMETERS: tuple[tuple[str, Any, str], ...] = (
    ("bundle", DEFAULT_BUNDLE, "Folder of the model bundle, or the name of one that ships."),
    ("engine", "auto", f"What runs the model: one of {', '.join(ENGINES)}."),
    ("precision", "auto", f"Numbers the engine computes with: one of {', '.join(PRECISIONS)}."),
    ("threads", 0, "Threads of the engine; 0 uses every core that the process may run on."),
    ("fit", "", f"How frames are made to fit the model: {', '.join(FITS)}; empty: as the bundle says."),
    ("image_transport", "raw", f"Type of ~/input/image: {', '.join(TRANSPORTS)}."),
)


@dataclass(frozen=True)
class Arrived:
    """A frame as it came in, with the steady time of its arrival."""

    message: Any
    at: float


class Re2pixNode(Node):  # type: ignore[misc]
    """Takes camera frames and publishes forecasts. A worker thread does all the work; callbacks only hand over."""

    def __init__(self) -> None:
        super().__init__("re2pix_node")
        for name, default, description in PARAMETERS:
            self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True))
        self._health = Health()
        self._mailbox: Mailbox[Arrived] = Mailbox()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = self.create_timer(1.0, self._publish_diagnostics)
        self._worker = threading.Thread(target=self._work, name="re2pix worker", daemon=True)
        self._worker.start()

    def stop(self) -> None:
        """Ends the worker. It may be loading a large model, which nothing can interrupt: that is not waited for."""
        self._mailbox.close()
        self._worker.join(timeout=1.0)

    def _work(self) -> None:
        try:
            session = self._open()
        except Re2pixError as error:
            self._give_up(str(error))
        except Exception as error:  # the node stays up and says what happened, whatever it is
            self._give_up(f"{type(error).__name__}: {one_line(error)}")
        else:
            while (arrived := self._mailbox.take()) is not None:
                session.handle(arrived)

    def _give_up(self, why: str) -> None:
        self._health.fatal = why
        self.get_logger().error(why)

    def _open(self) -> "_Session":
        value = {name: self.get_parameter(name).value for name, _, _ in PARAMETERS}
        if not value["bundle"]:
            raise Re2pixError(
                "the parameter 'bundle' is empty: give the folder of a bundle, as in -p bundle:=models/NAME"
            )
        if value["image_transport"] not in TRANSPORTS:
            raise Re2pixError(f"image_transport '{value['image_transport']}' is not one of {', '.join(TRANSPORTS)}")
        bundle = read_bundle(bundle_folder(value["bundle"]))
        engine, attempts = open_engine(bundle, value["engine"], value["precision"], value["threads"])
        self._health.passed_over = tuple(str(attempt) for attempt in attempts if attempt.fault)
        self._health.engine = f"{engine.name} {engine.precision} ({engine.version})"
        for passed_over in self._health.passed_over:
            self.get_logger().warning(f"engine passed over: {passed_over}")
        self.get_logger().info(f"bundle {bundle.manifest.name} {bundle.manifest.version} on {attempts[-1]}")
        session = _Session(self, self._health, self._mailbox, bundle, engine, value["fit"] or None)
        # Frames are old by the time they can be used: best effort, and only the newest.
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._subscription = self.create_subscription(
            TRANSPORTS[value["image_transport"]], "~/input/image", self._receive, newest
        )
        self._health.state = "running"
        return session

    def _receive(self, message: Any) -> None:
        self._health.count("received")
        self._mailbox.put(Arrived(message, time.monotonic()))

    def _publish_diagnostics(self) -> None:
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [self._health.status(self.get_fully_qualified_name().lstrip("/"), self._mailbox.overtaken)]
        self._diagnostics.publish(array)


class _Session:
    """Work on frames with one bundle and one engine."""

    def __init__(
        self, node: Node, health: Health, mailbox: Mailbox[Arrived], bundle: Bundle, engine: Engine, fit: str | None
    ) -> None:
        self._node = node
        self._health = health
        self._mailbox = mailbox
        self._bundle = bundle
        self._engine = f"{engine.name} {engine.precision}"
        self._pipeline = Pipeline(bundle, engine, fit)
        # Subscribers that want best effort can have it from a reliable publisher, not the other way round.
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        self._forecasts = node.create_publisher(ForecastMessage, "~/output/forecast", qos)
        self._outputs: dict[str, Publisher] = {
            name: node.create_publisher(FeatureMap if name.endswith("features") else Image, f"~/output/{name}", qos)
            for name in output_names(bundle)
        }

    def handle(self, arrived: Arrived) -> None:
        """One frame, from message to published forecast. Nothing that is wrong with a frame ends the node."""
        try:
            self._handle(arrived)
        except ImageError as error:
            self._health.count("undecodable")
            self._report(str(error))
        except Exception as error:  # an engine may throw anything; this frame is lost, the next may be fine
            self._report(one_line(error))

    def _handle(self, arrived: Arrived) -> None:
        started, message = time.monotonic(), arrived.message
        stamp = stamp_of(message.header)
        forecast = self._pipeline.observe(decode(message), stamp)
        self._tell_arrival(stamp)
        if forecast is None:
            self._health.count("repeated" if self._pipeline.arrival is Arrival.REPEATED else "no context")
        else:
            self._publish(forecast, message.header.frame_id, started)
            self._health.count("published")
            self._health.latency(time.monotonic() - arrived.at)

    def _publish(self, forecast: Forecast, frame_id: str, started: float) -> None:
        types = ros_types()
        wanted = [name for name, publisher in self._outputs.items() if publisher.get_subscription_count()]
        made = Circumstances(
            engine=self._engine,
            frame_id=frame_id,
            age=self._node.get_clock().now().nanoseconds - forecast.stamp,
            processing_time=round(1e9 * (time.monotonic() - started)),
            frames_dropped=self._mailbox.overtaken,
        )
        self._forecasts.publish(forecast_message(types, self._bundle, forecast, wanted, made))
        for name, message in output_messages(types, self._bundle, forecast, wanted, frame_id):
            self._outputs[name].publish(message)

    def _tell_arrival(self, stamp: int) -> None:
        if self._pipeline.arrival is not Arrival.IN_ORDER:
            text = f"frame stamped {stamp / 1e9:.3f} s {self._pipeline.arrival.value}"
            self._node.get_logger().warning(text, throttle_duration_sec=10.0)

    def _report(self, message: str) -> None:
        self._health.error(message)
        self._node.get_logger().error(message, throttle_duration_sec=10.0)


def main(arguments: Sequence[str] | None = None) -> int:
    rclpy.init(args=arguments)
    try:
        node = Re2pixNode()
        try:
            rclpy.spin(node)
        finally:
            node.stop()
            node.destroy_node()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # A signal shuts ROS down under whatever a callback is doing, a publisher's publish() for one.
        if rclpy.ok():
            raise
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
