"""The node's outputs: creates the topics, knows their subscribers, and publishes forecasts."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from rclpy.node import Node
from re2pix_msgs.msg import Forecast as ForecastMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from re2pix_node.bundle.reader import Bundle
from re2pix_node.errors import Re2pixError
from re2pix_node.pipeline.messages import (
    Circumstances,
    forecast_message,
    header_message,
    image_message,
)
from re2pix_node.pipeline.outputs import IMAGE, message_type, output_messages, output_names
from re2pix_node.pipeline.pipeline import Forecast
from re2pix_node.pipeline.preview import Picture, encode_jpeg, forecast_sheet
from re2pix_node.ros import label_info, qos
from re2pix_node.ros.camera_info import scaled
from re2pix_node.ros.message_types import ros_types
from re2pix_node.ros.parameters import NodeSettings

PREVIEW, CAMERA_INFO = "preview", "camera_info"


class ForecastPublishers:
    """Publishers of one bundle's forecasts. Outputs without subscribers are not computed, except the Forecast."""

    def __init__(self, node: Node, bundle: Bundle, settings: NodeSettings, held: ExitStack) -> None:
        """`held` destroys the publishers."""
        self._node = node
        self._bundle = bundle
        self.preview_rate = settings.preview_rate
        self._previewed = 0.0  # steady time
        self._held = held
        self._forecast = self._advertise(ForecastMessage, "forecast")
        self._moments = {
            name: self._advertise(ros_types().named(message_type(name.split("/")[1])), name)
            for name in _moment_names(bundle, settings)
        }
        drawn = [k for k in _chosen(bundle, settings) if k] if bundle.manifest.render else []
        self._pictures = {k: self._advertise(Image, f"h{k}/{IMAGE}") for k in drawn}
        outputs = settings.outputs
        self._preview = self._advertise(CompressedImage, "preview/compressed") if PREVIEW in outputs else None
        self._camera_info = self._advertise(CameraInfo, "camera_info") if CAMERA_INFO in outputs else None
        if label_info.available():
            self._publish_labels()

    def publish(self, forecast: Forecast, made: Circumstances) -> None:
        """Publish the forecast and those of its outputs that have subscribers."""
        types = ros_types()
        wanted = [name for name, publisher in self._moments.items() if publisher.get_subscription_count()]
        self._forecast.publish(forecast_message(types, self._bundle, forecast, wanted, made))
        for name, message in output_messages(types, self._bundle, forecast, wanted, made.frame_id):
            self._moments[name].publish(message)

    def publish_camera_info(self, info: CameraInfo, forecast: Forecast, frame_id: str) -> None:
        """Publish the camera's calibration, scaled to the masks."""
        if self._camera_info and self._camera_info.get_subscription_count():
            labels = self._bundle.manifest.labels
            message = scaled(info, forecast.region, labels.height, labels.width)
            message.header = header_message(ros_types(), forecast.stamp, frame_id)
            self._camera_info.publish(message)

    def publish_preview(self, picture: Picture, forecast: Forecast, frame_id: str) -> None:
        """Publish an overlay for people, at most at `preview_rate`."""
        now = time.monotonic()
        if not (self._preview and self.preview_rate > 0 and self._preview.get_subscription_count()):
            return
        if now - self._previewed < 1 / self.preview_rate:
            return
        self._previewed = now
        types = ros_types()
        data = encode_jpeg(forecast_sheet(picture, forecast, self._bundle.manifest.labels))
        header = header_message(types, forecast.stamp, frame_id)
        self._preview.publish(CompressedImage(header=header, format="jpeg", data=types.array(data)))

    def wanted_pictures(self) -> list[int]:
        """The horizons whose pictures have subscribers, the nearest first."""
        return [k for k, publisher in self._pictures.items() if publisher.get_subscription_count()]

    def publish_picture(self, stamp: int, k: int, picture: Picture, frame_id: str) -> None:
        """Publish a picture of h<k>, with the stamp of its forecast. Any thread may call this."""
        types = ros_types()
        header = header_message(types, stamp, frame_id)
        self._pictures[k].publish(image_message(types, picture, header))

    def _advertise(self, kind: type, name: str, profile: Any = qos.OUTPUT) -> Any:
        publisher = qos.advertise(self._node, kind, f"~/output/{name}", profile)
        self._held.callback(self._node.destroy_publisher, publisher)
        return publisher

    def _publish_labels(self) -> None:
        now = self._node.get_clock().now().nanoseconds
        message = label_info.label_info_message(self._bundle.manifest.labels, now)
        self._advertise(type(message), "label_info", qos.LATCHED).publish(message)


def _moment_names(bundle: Bundle, settings: NodeSettings) -> Sequence[str]:
    """Names of the outputs for each moment, of the requested kinds and horizons."""
    chosen = {f"h{k}" for k in _chosen(bundle, settings)}
    return [name for name in output_names(bundle, settings.outputs) if name.split("/")[0] in chosen]


def _chosen(bundle: Bundle, settings: NodeSettings) -> Sequence[int]:
    """The requested horizons, in order."""
    count = len(bundle.manifest.time.horizons) + 1
    beyond = [k for k in settings.horizons if k >= count]
    if beyond:
        raise Re2pixError(
            f"horizons names h{beyond[0]}, but {bundle.manifest.name} has h0 to h{count - 1}: leave it out"
        )
    return sorted(settings.horizons) or range(count)
