"""The real node as a process of its own, and a listener to it, for tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy

ROOT = Path(__file__).resolve().parents[1]
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def start(*command: object, **options) -> "subprocess.Popen[str]":
    """A Python process, with signals as a terminal gives them: background jobs inherit SIGINT as ignored."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


class Listener:
    """A ROS node of the test's own."""

    def __init__(self, namespace: str) -> None:
        self.name = f"{namespace}/re2pix_node"
        self.node = rclpy.create_node("listener", namespace=namespace)
        self.received: dict[str, list] = {}
        self.status: dict[str, str] = {}
        self.level = b"\x00"
        self.message = ""
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)

    def listen(self, kind: type, output: str) -> list:
        messages = self.received.setdefault(output, [])
        self.node.create_subscription(kind, f"{self.name}/output/{output}", messages.append, RELIABLE)
        return messages

    def publisher(self, kind: type):
        return self.node.create_publisher(kind, f"{self.name}/input/image", RELIABLE)

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


@contextlib.contextmanager
def running_node(namespace: str, **parameters: object) -> Iterator["subprocess.Popen[str]"]:
    command = ["-m", "re2pix_node.node", "--ros-args", "-r", f"__ns:={namespace}"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    process = start(*command)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
