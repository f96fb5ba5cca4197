"""`re2pix demo`: plays a drive through the real node over ROS 2, as a camera would, and shows what comes back."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from re2pix_node.arguments import add_bundle_arguments
from re2pix_node.bags import open_recording
from re2pix_node.bundle import Bundle, read_bundle
from re2pix_node.engines.base import one_line
from re2pix_node.errors import Re2pixError
from re2pix_node.images import Picture, decode
from re2pix_node.manifest import NANOSECONDS, UNLABELLED
from re2pix_node.messages import header_message, mask_of, ros_types, stamp_of
from re2pix_node.partial import write_beside
from re2pix_node.percentile import percentile
from re2pix_node.preview import contact_sheet, cut, moment_caption, open_video, save_picture

READY_SECONDS = 60.0  # for the node to load and prove an engine
LAST_SECONDS = 1.0  # for the last forecasts to arrive


@dataclass
class Seen:
    """What the demo sent and what came back, by stamp."""

    sent: dict[int, tuple[Picture, float]] = field(default_factory=dict)
    forecasts: dict[int, tuple[Any, float]] = field(default_factory=dict)
    masks: dict[tuple[int, int], Picture] = field(default_factory=dict)  # by stamp and horizon
    diagnostics: dict[str, str] = field(default_factory=dict)
    state: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bundle_arguments(parser)
    parser.add_argument("--drive", type=Path, required=True, help="a recording with a camera topic")
    parser.add_argument("--topic", help="the camera topic, where the recording has several")
    parser.add_argument("--out", type=Path, default=Path("re2pix-demo"), help="folder for the video and the still")
    parser.add_argument("--seconds", type=float, default=0.0, help="play only so much of the drive (0: all of it)")


def run(options: argparse.Namespace) -> int:
    try:
        import rclpy
    except ImportError as error:
        why = one_line(error)
        raise Re2pixError(f"ROS 2 is not here ({why}): source it, or run make demo; re2pix doctor says more") from None
    bundle = read_bundle(options.bundle)
    frames, rate = _load_drive(options.drive, options.topic, options.seconds)
    options.out.mkdir(parents=True, exist_ok=True)
    # Our own traffic stays on this machine, and apart from a second demo's.
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    namespace = f"/re2pix_demo_{os.getpid()}"
    print(f"playing {len(frames)} frames of {options.drive} at {rate:.1f} Hz through the node", flush=True)
    rclpy.init()
    try:
        with _running_node(options, namespace) as node:
            seen = _Player(bundle, namespace, node).play(frames)
    finally:
        rclpy.try_shutdown()
    if not seen.forecasts:
        raise Re2pixError(f"no forecast came back ({seen.state}): run re2pix doctor, and re2pix check {options.bundle}")
    print(_table(seen))
    _write_pictures(options.out, bundle, seen, rate)
    return 0


def _load_drive(path: Path, topic: str | None, seconds: float) -> tuple[list[tuple[int, Picture]], float]:
    """Frames with their time since the first, ns; decoded beforehand, so that the play keeps its rate."""
    with open_recording(path) as recording:
        frames: list[tuple[int, Picture]] = []
        for frame in recording.frames(recording.camera(topic)):
            since = frame.stamp - frames[0][0] if frames else 0
            if seconds and since > seconds * NANOSECONDS:
                break
            frames.append((frame.stamp, decode(frame.message)))
    if len(frames) < 2:
        raise Re2pixError(f"{path}: has {len(frames)} frames, a demo needs a drive of some seconds")
    length = (frames[-1][0] - frames[0][0]) / NANOSECONDS
    return [(stamp - frames[0][0], picture) for stamp, picture in frames], (len(frames) - 1) / max(length, 1e-3)


@contextlib.contextmanager
def _running_node(options: argparse.Namespace, namespace: str) -> Iterator["subprocess.Popen[bytes]"]:
    parameters = {"bundle": options.bundle, "engine": options.engine, "precision": options.precision}
    parameters |= {"threads": options.threads, "fit": options.fit or "''"}
    command = [sys.executable, "-m", "re2pix_node.node", "--ros-args", "-r", f"__ns:={namespace}"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    node = subprocess.Popen(command)
    try:
        yield node
    finally:
        node.send_signal(signal.SIGINT)
        try:
            node.wait(5)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()


class _Player:
    """A camera and a listener on one ROS node."""

    def __init__(self, bundle: Bundle, namespace: str, process: "subprocess.Popen[bytes]") -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from re2pix_msgs.msg import Forecast
        from sensor_msgs.msg import Image

        self._seen = Seen()
        self._process = process
        self._node = rclpy.create_node("camera", namespace=namespace)
        node_name = f"{namespace}/re2pix_node"
        self._status_name = f"{node_name.lstrip('/')}: forecast"
        qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        self._camera = self._node.create_publisher(Image, f"{node_name}/input/image", qos)
        self._node.create_subscription(Forecast, f"{node_name}/output/forecast", self._on_forecast, qos)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos)
        for k in range(len(bundle.manifest.time.horizons) + 1):
            topic = f"{node_name}/output/h{k}/segmentation"
            self._node.create_subscription(Image, topic, lambda message, k=k: self._on_mask(message, k), qos)

    def play(self, frames: list[tuple[int, Picture]]) -> Seen:
        self._wait_until_ready()
        start = time.monotonic()
        for since, picture in frames:
            self._spin_until(start + since / NANOSECONDS)
            self._send(picture)
        # The node counts up to its next report, one a second.
        self._spin_until(time.monotonic() + 1.0 + LAST_SECONDS)
        self._node.destroy_node()
        return self._seen

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._seen.diagnostics.get("engine") or not self._camera.get_subscription_count():
            self._spin_until(time.monotonic() + 0.1)
            if self._seen.state.startswith("failed"):
                raise Re2pixError(f"the node {self._seen.state}")
            if self._process.poll() is not None:
                raise Re2pixError(f"the node ended with code {self._process.returncode}; what it said is above")
            if time.monotonic() > deadline:
                said = self._seen.state or "it is not heard at all"
                raise Re2pixError(f"the node was not ready after {READY_SECONDS:.0f} s ({said}): run re2pix doctor")
        # The node may need a moment more than we do to know that we are connected, and loses what comes before.
        self._spin_until(time.monotonic() + 0.3)

    def _spin_until(self, deadline: float) -> None:
        import rclpy

        while (left := deadline - time.monotonic()) > 0:
            rclpy.spin_once(self._node, timeout_sec=left)

    def _send(self, picture: Picture) -> None:
        types = ros_types()
        stamp = self._node.get_clock().now().nanoseconds
        height, width = picture.shape[:2]
        message = types.image(
            header=header_message(types, stamp, "camera"),
            height=height,
            width=width,
            encoding="rgb8",
            is_bigendian=0,
            step=3 * width,
            data=types.array(picture.reshape(-1)),
        )
        self._seen.sent[stamp] = picture, time.monotonic()
        self._camera.publish(message)

    def _on_forecast(self, message: Any) -> None:
        self._seen.forecasts[stamp_of(message.header)] = message, time.monotonic()

    def _on_mask(self, message: Any, k: int) -> None:
        self._seen.masks[stamp_of(message.header), k] = mask_of(message)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            if status.name == self._status_name:
                self._seen.diagnostics = {pair.key: pair.value for pair in status.values}
                failed = status.level == b"\x02" and not self._seen.diagnostics["engine"]
                self._seen.state = f"failed: {status.message}" if failed else status.message


def _table(seen: Seen) -> str:
    told = seen.diagnostics
    latencies = [1e3 * (at - seen.sent[stamp][1]) for stamp, (_, at) in seen.forecasts.items() if stamp in seen.sent]
    stamps = sorted(seen.forecasts)
    seconds = (stamps[-1] - stamps[0]) / NANOSECONDS or 1.0
    lost = len(seen.sent) - int(told["frames received"])
    overtaken, undecodable = told["frames overtaken"], told["frames undecodable"]
    rows = {
        "engine": told["engine"],
        "frames in": f"{len(seen.sent)} sent, {told['frames received']} received",
        "forecasts out": f"{len(stamps)} ({told['frames without context']} frames had no context yet)",
        "rate": f"{(len(stamps) - 1) / seconds:.1f} Hz",
        "latency p50": f"{percentile(latencies, 0.5):.1f} ms from sending the image to receiving the forecast",
        "latency p99": f"{percentile(latencies, 0.99):.1f} ms",
        "drops": f"{overtaken} overtaken, {lost} lost on the way, {undecodable} undecodable",
    }
    return "\n".join(f"  {name:<14} {value}" for name, value in rows.items())


def _write_pictures(out: Path, bundle: Bundle, seen: Seen, rate: float) -> None:
    video_path, still_path = out / "demo.webm", out / "demo.png"
    stamps = [stamp for stamp in sorted(seen.forecasts) if stamp in seen.sent]
    with write_beside(video_path, replace=True) as partial, open_video(partial, rate) as video:
        for i, stamp in enumerate(stamps):
            sheet = _sheet(bundle, seen, stamp)
            video.write(sheet)
            if i == len(stamps) * 2 // 3:
                save_picture(still_path, sheet)
    print(f"still {still_path}")
    print(f"video {video_path}")


def _sheet(bundle: Bundle, seen: Seen, stamp: int) -> Picture:
    message, received = seen.forecasts[stamp]
    picture, sent = seen.sent[stamp]
    masks = []
    for k, horizon in enumerate(message.horizons):
        mask = seen.masks.get((stamp, k))
        if mask is None:
            mask = np.full((message.mask_height, message.mask_width), UNLABELLED, np.uint8)
        masks.append((moment_caption(horizon.sec * NANOSECONDS + horizon.nanosec), mask))
    spacing = message.spacing.sec + message.spacing.nanosec / NANOSECONDS
    notes = [f"frames {spacing:.3f} s apart", f"latency {1e3 * (received - sent):.0f} ms", message.engine]
    region = message.region
    return contact_sheet(
        cut(picture, region.x, region.y, region.width, region.height), masks, notes, bundle.manifest.labels
    )
