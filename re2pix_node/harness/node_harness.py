"""Runs the real node as a process, with a played camera and a listener: for demo, bench-node and soak."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from re2pix_node.common import subprocess_python
from re2pix_node.common.shipped import shipped
from re2pix_node.errors import Re2pixError
from re2pix_node.harness.player import end_on_signals
from re2pix_node.pipeline.model_choice import ModelChoice
from re2pix_node.recordings.reader import CameraTopic

READY_SECONDS = 60.0  # for the node to load and prove an engine
END_SECONDS = 5.0  # for a process to end when asked
ENDING = signal.SIGTERM  # what the node and the camera get if this process is killed; they then free shared memory
REPORT_SECONDS = 10.0  # for the node's diagnostics, one a second, on a busy machine


@dataclass(frozen=True)
class PlayedDrive:
    """A recording to play."""

    path: Path
    camera: CameraTopic
    rate: float  # Hz


class Rig:
    """A running node, and a ROS node of our own that listens to it."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", listener: Node) -> None:
        self.name = name
        self.process = process
        self.status: dict[str, str] = {}  # the newest diagnostics
        self.said = ""
        self.reports = 0
        self._level = DiagnosticStatus.OK
        self._listener = listener
        self._topics: list[str] = []
        self._qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        listener.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, self._qos)

    def listen(self, kind: type, output: str, callback: Callable[[Any], None]) -> None:
        topic = f"{self.name}/output/{output}"
        self._listener.create_subscription(kind, topic, callback, self._qos)
        self._topics.append(topic)

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Receive messages until the condition holds or the time is over. A process that ends meanwhile is an error."""
        deadline = time.monotonic() + seconds
        while not until():
            if self.process.poll() is not None:
                raise Re2pixError(f"the node ended with code {self.process.returncode}; its messages are above")
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            rclpy.spin_once(self._listener, timeout_sec=min(left, 0.1))
        return True

    def wait_until_ready(self) -> None:
        """Wait until the node takes frames and all its topics exist."""
        if not self.wait(lambda: self._is_ready() or self._has_failed(), READY_SECONDS):
            said = self.said or "it is not heard at all"
            raise Re2pixError(f"the node was not ready after {READY_SECONDS:.0f} s ({said}): run re2pix doctor")
        if self._has_failed():
            raise Re2pixError(f"the node failed: {self.said}")

    def settle(self) -> None:
        """Wait until the node's counts and ours account for every sent frame."""
        heard = self.reports
        self.wait(lambda: self.reports >= heard + 2, REPORT_SECONDS)

    def set_parameter(self, name: str, value: object) -> None:
        """Set a parameter that may change at any time."""
        client = self._listener.create_client(SetParameters, f"{self.name}/set_parameters")
        try:
            request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
            future = client.call_async(request) if self.wait(client.service_is_ready, REPORT_SECONDS) else None
            if not (future and self.wait(future.done, REPORT_SECONDS)):
                raise Re2pixError(f"the node did not take {name} within {REPORT_SECONDS:.0f} s: is it very busy?")
            (result,) = future.result().results
        finally:
            self._listener.destroy_client(client)
        if not result.successful:
            raise Re2pixError(result.reason)

    @contextlib.contextmanager
    def camera(self, recording: Path, *options: object) -> Iterator["Camera"]:
        """Play a recording to the node, stamped with the present time; it starts by itself when connected."""
        with tempfile.TemporaryDirectory(prefix="re2pix-") as folder:
            stamps = Path(folder) / "stamps"
            stamps.touch()
            words = ["play", recording, "--to", f"{self.name}/input/image", "--wait", "--restamp", "--stamps", stamps]
            command = subprocess_python.command("re2pix_node.cli", *map(str, [*words, *options]), ends_with=ENDING)
            with _process(command, stdout=subprocess.PIPE) as process:
                yield Camera(self, process, stamps)

    def _is_ready(self) -> bool:
        loaded = bool(self.status.get("engine"))
        return (
            loaded
            and self._listener.count_subscribers(f"{self.name}/input/image") > 0
            and all(self._listener.count_publishers(topic) for topic in self._topics)
        )

    def _has_failed(self) -> bool:
        return bool(self._level == DiagnosticStatus.ERROR) and not self.status.get("engine")

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            if status.name == f"{self.name.lstrip('/')}: forecast":
                self.status = {pair.key: pair.value for pair in status.values}
                self.said, self._level = status.message, status.level
                self.reports += 1


class Camera:
    """The process that plays, and the frames it has sent."""

    def __init__(self, rig: Rig, process: "subprocess.Popen[bytes]", stamps: Path) -> None:
        self.process = process
        self._rig = rig
        self._stamps = stamps
        self._read = 0
        self._sent: dict[int, None] = {}

    def sent(self) -> list[int]:
        """The stamps (ns) sent so far, in order."""
        self._take_in()
        return list(self._sent)

    def has_sent(self, stamp: int) -> bool:
        if stamp not in self._sent:
            self._take_in()
        return stamp in self._sent

    def finish(self, seconds: float) -> dict[str, Any]:
        """Wait for the end of the play and return the player's summary."""
        if not self._rig.wait(lambda: self.process.poll() is not None, seconds):
            raise Re2pixError(f"the camera has not ended after {seconds:.0f} s: is this machine very busy?")
        said = self.process.communicate()[0].decode()
        if self.process.returncode:
            raise Re2pixError("the camera failed; its messages are above")
        return dict(json.loads(said))

    def _take_in(self) -> None:
        with self._stamps.open() as stream:
            stream.seek(self._read)
            whole, _, _ = stream.read().rpartition("\n")
        if whole:
            self._read += len(whole) + 1
            self._sent.update(dict.fromkeys(map(int, whole.split())))


def node_parameters(model: ModelChoice, message_type: str) -> dict[str, object]:
    """The node's parameters for this choice of a model."""
    return {
        "bundle": model.bundle,
        "engine": model.engine,
        "precision": model.precision,
        "threads": model.threads,
        "fit": model.fit or "",
        "image_transport": "raw" if message_type == "Image" else "compressed",
    }


@contextlib.contextmanager
def running_node(what: str, parameters: Mapping[str, object]) -> Iterator[Rig]:
    """Run the node with these parameters, in a namespace of its own."""
    _prepare_environment()
    end_on_signals()
    namespace = f"/re2pix_{what}_{os.getpid()}"
    command = subprocess_python.command(
        "re2pix_node.ros.node", "--ros-args", "-r", f"__ns:={namespace}", ends_with=ENDING
    )
    for name, value in parameters.items():
        # ROS reads YAML, and JSON is YAML: quoted this way, no path or word changes its type.
        command += ["-p", f"{name}:={json.dumps(str(value) if isinstance(value, Path) else value)}"]
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        with _process(command) as process:
            yield Rig(f"{namespace}/re2pix_node", process, rclpy.create_node("listener", namespace=namespace))
    finally:
        rclpy.try_shutdown()


def _prepare_environment() -> None:
    # Keep our traffic on this machine.
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    profile = shipped("config/fastdds.xml")  # without it images get lost
    if profile:
        os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))
        os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(profile))


@contextlib.contextmanager
def _process(command: list[str], stdout: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    with contextlib.ExitStack() as stack:
        with _stopped_later():
            process = subprocess.Popen(command, env=subprocess_python.environment(), stdout=stdout)
            stack.callback(_end, process)
        yield process


@contextlib.contextmanager
def _stopped_later() -> Iterator[None]:
    """Delay a request to stop until the block is over: otherwise a process that is just being started would be left
    behind."""
    asked: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM)
    before = {which: signal.signal(which, lambda number, _: asked.append(number)) for which in stops}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    if asked:
        signal.raise_signal(asked[0])


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
