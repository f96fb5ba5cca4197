"""What goes wrong between processes: cameras that die, bursts, subscribers that stall, QoS that does not match."""

import contextlib
import json
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from re2pix_msgs.msg import Forecast
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from re2pix_node.bundle.reader import Bundle
from re2pix_node.pipeline.messages import stamp_of
from tests.support.faulty_bundle import make_slow_bundle
from tests.support.faulty_camera import check_times, context_of, filming
from tests.support.ros_node import READY, RELIABLE, WARN, Listener, image, listener, ros, running_node, start_module

__all__ = ["listener", "ros"]  # fixtures

CPU = {"engine": "onnxruntime", "threads": 1}


@contextlib.contextmanager
def process(*command: object) -> Iterator:
    started = start_module(*command)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def test_a_camera_that_dies_and_returns(tiny: Bundle, listener: Listener) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    command = ["tests.support.camera", f"{listener.name}/input/image", "--width", 256, "--height", 128]
    with running_node(listener.namespace, bundle=tiny.path, **CPU):
        for _ in range(2):
            assert listener.wait(lambda: listener.message.startswith("no frames arrive: is the camera running"), READY)
            assert listener.level == WARN
            count = len(forecasts)
            with process(*command, "--frames", 100_000, "--rate", 20) as camera:
                assert listener.wait(lambda count=count: len(forecasts) > count + 3, READY)
                assert listener.wait(lambda: not listener.message.startswith("no frames arrive"), READY)
                camera.send_signal(signal.SIGKILL)
    for message in forecasts:
        check_times(message, set(context_of(message)))
    assert listener.count("errors") == 0


def test_a_burst_at_60_hz(ros: None, listener: Listener, tmp_path: Path) -> None:
    slow = make_slow_bundle(tmp_path / "slow")
    forecasts = listener.listen(Forecast, "forecast")
    command = ["tests.support.camera", f"{listener.name}/input/image", "--width", 256, "--height", 128]
    with running_node(listener.namespace, bundle=slow.path, precision="fp32", threads=1):
        assert listener.wait(lambda: listener.status.get("state") == "active", READY), listener.message
        with process(*command, "--frames", 180, "--rate", 60) as camera:
            assert listener.wait(lambda: camera.poll() is not None, READY)
            sent = json.loads(camera.communicate()[0])
        listener.wait_settled()
        assert len(forecasts) == listener.count("forecasts published") > 0
    # There is no time for all of them: some are skipped by plan, or overtaken by newer ones, and all are counted.
    dropped = listener.count("frames overtaken") + listener.count("frames skipped")
    assert 0 < dropped < listener.count("frames received") <= len(sent)
    assert listener.count("errors") == 0
    assert max(message.frames_dropped for message in forecasts) <= dropped
    for message in forecasts:
        check_times(message, set(sent), bounds=(0.12e9, 5e9))


def test_a_subscriber_that_stalls_holds_up_nobody_else(tiny: Bundle, ros: None) -> None:
    with filming(tiny.path, **CPU) as camera:
        listener = camera.listener
        echoed: list[Header] = []
        listener.node.create_subscription(Header, f"{listener.namespace}/echo", echoed.append, RELIABLE)

        def waits(count: int) -> list[float]:
            """Seconds from sending a frame to having its forecast."""
            seconds = []
            for _ in range(count):
                sent, had = time.monotonic(), len(camera.forecasts)
                camera.send()
                if listener.wait(lambda had=had: len(camera.forecasts) > had, 2.0):
                    seconds.append(time.monotonic() - sent)
            return seconds

        with process("tests.support.subscriber", listener.namespace) as subscriber:
            assert camera.send_until(lambda: len(echoed) > 3)
            camera.pause = 0.0
            before = waits(20)
            for ending in (signal.SIGCONT, signal.SIGKILL):
                subscriber.send_signal(signal.SIGSTOP)
                first = camera.stamp
                stalled = waits(100)
                assert max(map(stamp_of, echoed)) < first
                assert len(stalled) >= 90
                assert statistics.median(stalled) < 0.1 + 5 * statistics.median(before)
                subscriber.send_signal(ending)
                if ending is signal.SIGCONT:
                    camera.pause, resumed = 0.03, camera.stamp
                    assert camera.send_until(lambda resumed=resumed: max(map(stamp_of, echoed)) > resumed)
                    camera.pause = 0.0
        assert len(waits(20)) >= 15
        assert listener.count("errors") == 0
        camera.check()


def test_a_camera_whose_qos_does_not_match_is_named(tiny: Bundle, listener: Listener) -> None:
    topic = f"{listener.name}/input/image"
    override = {f"qos_overrides.{topic}.subscription.reliability": "reliable"}
    forecasts = listener.listen(Forecast, "forecast")
    log = listener.listen_log()
    publisher = listener.node.create_publisher(
        Image, topic, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    with running_node(listener.namespace, bundle=tiny.path, **CPU, **override):
        warning = (
            f"{topic}: {listener.namespace}/listener publishes best effort, volatile, but this node subscribes "
            "reliable, volatile: incompatible QoS, no messages will arrive; change one side, this one with the "
            "parameter "
            f"qos_overrides.{topic}.subscription.reliability"
        )
        assert listener.wait(lambda: warning in log, READY), "\n".join(log)
        assert listener.wait(lambda: listener.level == WARN, READY)
        assert listener.message.startswith("no frames arrive")
        listener.node.destroy_publisher(publisher)
        # Its side changed, the camera is heard.
        publisher = listener.publisher()
        assert listener.send_until(publisher, lambda: len(forecasts) >= 3, start=time.time_ns())


def test_a_subscriber_whose_qos_does_not_match_is_named(tiny: Bundle, ros: None) -> None:
    with filming(tiny.path, **CPU) as camera:
        listener, topic = camera.listener, f"{camera.listener.name}/output/forecast"
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        unheard: list[Forecast] = []
        listener.node.create_subscription(Forecast, topic, unheard.append, latched)
        warning = (
            f"{topic}: {listener.namespace}/listener subscribes reliable, transient local, but this node publishes "
            "reliable, volatile: incompatible QoS, no messages will arrive; change the other side"
        )
        assert listener.wait(lambda: warning in camera.log, READY), "\n".join(camera.log)
        assert camera.forecast_again()
        assert not unheard
        camera.check()


def test_two_nodes_in_two_namespaces_answer_each_its_own_camera(tiny: Bundle, ros: None) -> None:
    def wide(picture: np.ndarray, stamp: int) -> Image:
        return image(cv2.resize(picture, (512, 256)), stamp)

    with filming(tiny.path, **CPU) as left, filming(tiny.path, make=wide, start=10**18, **CPU) as right:
        for _ in range(30):
            left.send()
            right.send()
        assert left.forecast_again()
        assert right.forecast_again()
        for camera, width in ((left, 256), (right, 512)):
            assert {message.region.image_width for message in camera.forecasts} == {width}
            camera.check()
        assert left.publisher.get_subscription_count() == right.publisher.get_subscription_count() == 1
        # A fault of one does not affect the other.
        left.spoil("frames undecodable", make=lambda picture, stamp: image(picture, stamp, "sepia7"))
        assert right.forecast_again()
        assert right.listener.count("frames undecodable") == right.listener.count("errors") == 0
