"""An example of a consumer: reports when a moving class is expected in the corridor ahead of the vehicle."""

import sys
from collections.abc import Sequence
from typing import Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from re2pix_msgs.msg import Forecast, Intrusion
from sensor_msgs.msg import Image

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.examples.corridor import Corridor, Entry, intrusion
from re2pix_node.imaging.geometry import Region
from re2pix_node.pipeline.messages import mask_of, stamp_of

# name, default, lowest, highest, description
NUMBERS: tuple[tuple[str, float, float, float, str], ...] = (
    ("bottom_width", 0.5, 0.0, 2.0, "Width of the corridor at the lower edge of the image, in image widths."),
    ("top_width", 0.08, 0.0, 2.0, "Width of the corridor at its far edge, in image widths."),
    ("top", 0.55, 0.0, 0.99, "Height of the far edge: 0 is the upper edge of the image, 1 the lower."),
    ("centre", 0.5, 0.0, 1.0, "Middle of the corridor: 0 is the left edge of the image, 1 the right."),
    ("min_share", 0.02, 0.0, 1.0, "Share of the corridor that a class must cover."),
    ("min_confidence", 0.5, 0.0, 1.0, "Mean confidence that the class must have in the corridor."),
    ("max_age", 0.5, 0.0, 3600.0, "Seconds; forecasts from older frames are ignored; 0 ignores none."),
)
# A forecast and its masks arrive in any order, within milliseconds. One that is still incomplete after this many newer
# ones has lost a part.
MOST_WAITING = 16


class Join:
    """Joins messages with the same stamp: a forecast and the masks that it announces."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[str, Any]] = {}

    def add(self, name: str, message: Any) -> dict[str, Any] | None:
        """Add the "forecast" or an output by its name; return forecast and masks by name when they are complete."""
        stamp = stamp_of(message.header)
        parts = self._waiting.setdefault(stamp, {})
        parts[name] = message
        if "forecast" in parts and all(wanted in parts for wanted in _masks(parts["forecast"])):
            return self._waiting.pop(stamp)
        if len(self._waiting) > MOST_WAITING:
            # The oldest by arrival, because the stamps of a looping recording start again.
            del self._waiting[next(iter(self._waiting))]
        return None


def usable(forecast: Any) -> list[int]:
    """Horizons that have both masks and can be trusted: now, and those that beat "nothing changes"."""
    skilled = [k for k, skill in enumerate(forecast.skill) if k == 0 or skill >= 0]  # NaN: not measured, not trusted
    return [k for k in skilled if {f"h{k}/segmentation", f"h{k}/confidence"} <= set(forecast.outputs)]


def _masks(forecast: Any) -> list[str]:
    return [f"h{k}/{kind}" for k in usable(forecast) for kind in ("segmentation", "confidence")]


class CorridorWatch(Node):  # type: ignore[misc]
    """Listens to a re2pix_node and publishes an Intrusion for every forecast that has one."""

    def __init__(self) -> None:
        super().__init__("corridor_watch")
        source = ParameterDescriptor(description="Namespace in which re2pix_node publishes.", read_only=True)
        self._source = self.declare_parameter("source", "/re2pix_node/output", source).value.rstrip("/")
        value = {row[0]: self._declare(*row) for row in NUMBERS}
        self._corridor = Corridor(*(value[name] for name in ("bottom_width", "top_width", "top", "centre")))
        self._min_share, self._min_confidence = value["min_share"], value["min_confidence"]
        self._max_age = value["max_age"]
        self._join = Join()
        self._horizons = 0  # number of horizons subscribed to so far
        self._entered = False
        # Best effort is compatible with both kinds of publishers, and late messages are useless here.
        self._qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._intrusions = self.create_publisher(Intrusion, "~/intrusion", 10)
        self.create_subscription(Forecast, f"{self._source}/forecast", self._on_forecast, self._qos)

    def _declare(self, name: str, default: float, lowest: float, highest: float, description: str) -> float:
        limits = FloatingPointRange(from_value=lowest, to_value=highest)
        descriptor = ParameterDescriptor(description=description, read_only=True, floating_point_range=[limits])
        return float(self.declare_parameter(name, default, descriptor).value)

    def _on_forecast(self, forecast: Any) -> None:
        # The forecasts give the number of horizons. The node computes only masks that have a subscriber.
        for k in range(self._horizons, len(forecast.horizons)):
            for kind in ("segmentation", "confidence"):
                self._subscribe(f"h{k}/{kind}")
        self._horizons = max(self._horizons, len(forecast.horizons))
        self._take("forecast", forecast)

    def _subscribe(self, output: str) -> None:
        self.create_subscription(Image, f"{self._source}/{output}", lambda mask: self._take(output, mask), self._qos)

    def _take(self, name: str, message: Any) -> None:
        if (parts := self._join.add(name, message)) is not None:
            self._judge(parts["forecast"], parts)

    def _judge(self, forecast: Any, parts: dict[str, Any]) -> None:
        age = (self.get_clock().now().nanoseconds - stamp_of(forecast.header)) / NANOSECONDS
        if 0 < self._max_age < age:
            self.get_logger().warning(
                f"a forecast is ignored: its frame is {age:.2f} s old, and max_age is {self._max_age:g} s",
                throttle_duration_sec=10.0,
            )
            return
        masks = {
            k: (mask_of(parts[f"h{k}/segmentation"]), mask_of(parts[f"h{k}/confidence"])) for k in usable(forecast)
        }
        moving = [class_id for class_id, moves in zip(forecast.class_ids, forecast.class_moving, strict=True) if moves]
        inside = self._corridor.inside(_region(forecast.region), forecast.mask_height, forecast.mask_width)
        if not inside.any():
            text = "the corridor lies outside the part of the image that forecasts cover: nothing can enter it"
            self.get_logger().warning(text, throttle_duration_sec=10.0)
        entry = intrusion(masks, moving, inside, self._min_share, self._min_confidence)
        if entry is not None:
            self._report(forecast, entry, age)
        self._entered = entry is not None

    def _report(self, forecast: Any, entry: Entry, age: float) -> None:
        message = Intrusion(
            header=forecast.header,
            horizon=forecast.horizons[entry.horizon],
            predicted_stamp=forecast.predicted_stamps[entry.horizon],
            class_id=entry.class_id,
            class_name=forecast.class_names[list(forecast.class_ids).index(entry.class_id)],
            confidence=entry.confidence,
            share=entry.share,
            skill=forecast.skill[entry.horizon],
        )
        self._intrusions.publish(message)
        if not self._entered:
            ahead = message.horizon.sec + message.horizon.nanosec / NANOSECONDS
            when = f"expected in the corridor in {ahead:.2f} s" if entry.horizon else "in the corridor"
            sure = f"confidence {entry.confidence:.2f}, {entry.share:.0%} of it, picture {age:.2f} s old"
            self.get_logger().info(f"{message.class_name} {when} ({sure})")


def _region(message: Any) -> Region:
    return Region(message.image_width, message.image_height, message.x, message.y, message.width, message.height)


def main(arguments: Sequence[str] | None = None) -> int:
    rclpy.init(args=arguments)
    try:
        rclpy.spin(CorridorWatch())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        print(f"corridor_watch: {error}", file=sys.stderr)
        return 2
    except Exception:
        # A signal shuts ROS down while a callback may still be running, for example in publish().
        if rclpy.ok():
            raise
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
