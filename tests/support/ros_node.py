"""The real node as a process of its own, and a listener to it, for tests."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from re2pix_node.pipeline.messages import header_message
from re2pix_node.ros.message_types import ros_types
from tests.support import drive
from tests.support.prepared import PreparedProcess, start_prepared

ROOT = Path(__file__).resolve().parents[2]
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PROMPT = "tests.support.prompt_node"  # the node, for tests of pictures that are not about priorities
HASTY = "tests.support.hasty_node"  # and with shorter limits and pauses of its renderer
READY = 60.0  # seconds that a node may take to load a bundle on a busy machine
OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def start(*command: object, **options) -> "subprocess.Popen[str]":
    """A Python process, with signals as a terminal gives them: jobs may inherit SIGINT and SIGHUP as ignored."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP)],
        **options,
    )


def start_module(module: str, *words: object) -> PreparedProcess:
    """As start("-m", module, ...), in a process that has done most of its imports."""
    return start_prepared(module, *words, env=environment())


def image(picture: np.ndarray, stamp: int, encoding: str = "rgb8") -> Image:
    height, width, _ = picture.shape
    return Image(
        header=header_message(ros_types(), stamp, "camera"),
        height=height,
        width=width,
        encoding=encoding,
        step=3 * width,
        data=ros_types().array(picture.reshape(-1)),
    )


SERVICES = {
    "change_state": ChangeState,
    "get_state": GetState,
    "get_parameters": GetParameters,
    "set_parameters": SetParameters,
    "set_parameters_atomically": SetParametersAtomically,
}


# Each frame that was received is counted as one of these; those that cannot be decoded are among the errors.
ENDS = (
    "forecasts published",
    "frames overtaken",
    "frames skipped",
    "forecasts skipped",
    "frames too old",
    "frames over max_rate",
    "frames repeated",
    "frames unstamped",
    "frames without context",
    "errors",
)


class Listener:
    """A ROS node of the test's own, beside the one under test."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.name = f"{namespace}/re2pix_node"
        self.node = rclpy.create_node("listener", namespace=namespace)
        self.received: dict[str, list] = {}
        self.status: dict[str, str] = {}
        self.level = b"\x00"
        self.message = ""
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        # Made before the node is there: it loses its answer to one that it has not discovered within 0.1 s.
        self._clients = {name: self.node.create_client(kind, f"{self.name}/{name}") for name, kind in SERVICES.items()}

    def listen(self, kind: type, output: str) -> list:
        messages = self.received.setdefault(output, [])
        self.node.create_subscription(kind, f"{self.name}/output/{output}", messages.append, RELIABLE)
        return messages

    def listen_log(self) -> list[str]:
        """What the node logs, from its start on."""
        lines: list[str] = []
        name = self.name.strip("/").replace("/", ".")
        self.node.create_subscription(
            Log, "/rosout", lambda log: lines.append(log.msg) if log.name == name else None, LATCHED
        )
        return lines

    def publisher(self, kind: type = Image):
        return self.node.create_publisher(kind, f"{self.name}/input/image", RELIABLE)

    def count(self, what: str) -> int:
        """A count in the newest diagnostics, as in "frames received"."""
        return int(self.status.get(what, 0))

    def wait_settled(self) -> None:
        """Until nothing arrives any more, and diagnostics say what became of every frame."""

        def settled() -> bool:
            ends = sum(self.count(what) for what in ENDS)
            return self.status["input rate (Hz)"] == "0.0" and self.count("frames received") == ends

        assert self.wait(settled, READY), self.status

    def wait_active(self, publisher) -> None:
        """Until the node subscribes to what this publishes."""
        assert self.wait(lambda: publisher.get_subscription_count() > 0, READY), self.message

    def send_until(
        self, publisher, enough: Callable[[], bool], make=image, start: int = 10**18, pause: float = 0.05
    ) -> bool:
        """Sends frames 0.1 s apart by their stamps until it is enough. What is sent before the two are connected is
        lost, as a camera's first images are."""
        deadline = time.monotonic() + READY
        for i in itertools.count():
            if enough() or time.monotonic() > deadline:
                break
            publisher.publish(make(drive.frame(i / 10, 256, 128), start + i * 10**8))
            self.spin(pause)
        return enough()

    def call(self, service: str, request: Any) -> Any:
        client = self._clients[service]
        assert client.wait_for_service(READY), service
        future = client.call_async(request)
        assert self.wait(future.done, READY), service
        return future.result()

    def state(self) -> str:
        """The state of the node's life cycle."""
        return self.call("get_state", GetState.Request()).current_state.label

    def change(self, transition: str) -> bool:
        """Asks for a transition: configure, activate, deactivate, cleanup or shutdown."""
        request = ChangeState.Request()
        request.transition.label = transition
        return self.call("change_state", request).success

    def set(self, name: str, value: object) -> Any:
        """Sets a parameter; the result says whether it was taken, and why not."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call("set_parameters", request).results[0]

    def spin(self, seconds: float) -> None:
        self.wait(lambda: False, seconds)

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            rclpy.spin_once(self.node, timeout_sec=min(left, 0.1))
        return True

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name == f"{self.name.lstrip('/')}: forecast":
                self.status = {pair.key: pair.value for pair in status.values}
                self.level, self.message = status.level, status.message


@pytest.fixture(scope="module")
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def listener(ros: None, request: pytest.FixtureRequest) -> Iterator[Listener]:
    """For tests of the node: import it from here. Every test has a namespace of its own: late messages of the one
    before cannot reach it."""
    listener = Listener(f"/t{abs(hash(request.node.name)) % 10**6}_{time.monotonic_ns()}")
    yield listener
    listener.node.destroy_node()


@contextlib.contextmanager
def running_node(
    namespace: str, module: str = "re2pix_node.ros.node", **parameters: object
) -> Iterator[PreparedProcess]:
    words = ["--ros-args", "-r", f"__ns:={namespace}"]
    for name, value in parameters.items():
        words += ["-p", f"{name}:={value}"]
    process = start_module(module, *words)
    try:
        yield process
    finally:
        stop(process)


def stop(process: "subprocess.Popen[str] | PreparedProcess") -> None:
    """Asks first: a ROS process that is killed leaves its shared memory (64 MB) behind for good."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
