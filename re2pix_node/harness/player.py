"""Publishes one camera of a recording on a ROS topic in real time, as a camera would."""

import itertools
import signal
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.errors import Re2pixError
from re2pix_node.pipeline.messages import header_message, time_message
from re2pix_node.recordings.camera_frames import CameraFrame, CameraFrames
from re2pix_node.ros.message_types import ros_types

MESSAGES = {"Image": Image, "CompressedImage": CompressedImage}
AHEAD = 8  # frames prepared ahead of time, so that a slow one does not disturb the rate
LATE = 0.01  # s of delay up to which a frame does not delay the frames after it
TICK = 0.025  # s between messages on /clock, as in ros2 bag play
SETTLE = 0.5  # s until the other side also knows that we are connected, and until the last frame is sent

T = TypeVar("T")


def end_on_signals() -> None:
    """Make SIGTERM end the process as Ctrl-C does, and SIGINT too in a background job, which ignores it by default."""
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, signal.default_int_handler)


def open_lines(path: Path) -> TextIO:
    """Open a file that is written line by line, so that others can read it at the same time."""
    try:
        return path.open("w", buffering=1)
    except OSError as error:
        raise Re2pixError(f"{path}: cannot be written ({error.strerror}): choose another place") from error


@dataclass(frozen=True)
class Pace:
    """The pace of a play."""

    rate: float = 1.0  # 2 plays twice as fast
    frames: int = 0  # 0: all of them
    loop: bool = False
    restamp: bool = False
    clock: bool = False
    wait: bool = False


class Player:
    """Sends each frame at its time. A context manager in which rclpy runs."""

    def __init__(self, message_type: str, topic: str, options: Pace, stamps: TextIO | None) -> None:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._options = options
        self._stamps = stamps
        self._message_type = MESSAGES[message_type]
        node = rclpy.create_node("re2pix_play", start_parameter_services=False, enable_rosout=False)
        # As camera drivers do: a lost image is not sent again.
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._images = node.create_publisher(self._message_type, topic, newest)
        self._clock = node.create_publisher(Clock, "/clock", 1) if options.clock else None
        self.sent = 0
        self.late = 0.0  # s of delay of the play in total

    def __enter__(self) -> "Player":
        return self

    def __exit__(self, *_: object) -> None:
        rclpy.try_shutdown()

    def play(self, frames: CameraFrames) -> None:
        schedule = scheduled(frames, self._options.loop)
        limited = itertools.islice(schedule, self._options.frames or None)
        start = None
        for since, frame, message in made_ahead((since, frame, self._message(frame)) for since, frame in limited):
            if start is None:
                self._wait_for_subscriber(frame)
                start = time.monotonic()
            due = start + since / NANOSECONDS / self._options.rate
            late = time.monotonic() - due
            if late > LATE:
                # A camera does not send missed frames in a burst: all following frames are delayed too.
                start += late
                self.late += late
            self._wait_until(due, frame)
            self._send(frame, message)
        time.sleep(SETTLE)

    def _message(self, frame: CameraFrame) -> Any:
        types = ros_types()
        fields = {**frame.fields, "data": types.array(frame.fields["data"])}
        return self._message_type(header=header_message(types, frame.stamp, frame.frame_id), **fields)

    def _wait_for_subscriber(self, first: CameraFrame) -> None:
        if not self._options.wait:
            return
        while not self._images.get_subscription_count():
            self._wait_until(time.monotonic() + TICK, first)
        self._wait_until(time.monotonic() + SETTLE, first)

    def _wait_until(self, due: float, frame: CameraFrame) -> None:
        """Wait for the moment of a frame, and publish the clock up to it."""
        while (left := due - time.monotonic()) > 0:
            if self._clock:
                self._tick(frame.received - round(left * self._options.rate * NANOSECONDS))
            time.sleep(min(left, TICK))

    def _send(self, frame: CameraFrame, message: Any) -> None:
        if self._clock:
            self._tick(frame.received)
        stamp = frame.stamp
        if self._options.restamp:
            stamp = time.time_ns()
            message.header.stamp = time_message(ros_types(), stamp)
        if self._stamps:
            # Written first: a listener that receives a frame then finds its stamp here.
            print(stamp, file=self._stamps)
        self._images.publish(message)
        self.sent += 1

    def _tick(self, now: int) -> None:
        assert self._clock
        self._clock.publish(Clock(clock=time_message(ros_types(), max(now, 0))))


def scheduled(frames: CameraFrames, loop: bool) -> Iterator[tuple[int, CameraFrame]]:
    """Frames with their time since the very first one, in ns; repeated for a loop."""
    lap_start = 0
    while True:
        first = last = count = 0
        for frame in frames:
            first = first if count else frame.received
            last = frame.received
            count += 1
            yield lap_start + last - first, frame
        if not loop or not count:
            return
        # The first frame of the next round follows with the usual step.
        lap_start += (last - first) * count // (count - 1) if count > 1 else NANOSECONDS


def made_ahead(items: Iterator[T], depth: int = AHEAD) -> Iterator[T]:
    """The same items, each prepared in another thread before it is requested."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        pending: deque[Future[T | object]] = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]
