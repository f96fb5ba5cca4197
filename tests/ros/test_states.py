"""The resources of the node in each state of its life cycle, seen from inside its process."""

import gc
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn

from re2pix_node.bundle.reader import Bundle
from re2pix_node.ros.frame_worker import WAITING, FrameWorker
from re2pix_node.ros.node import Re2pixNode
from tests.support.faulty_bundle import picture
from tests.support.ros_node import READY, image

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture
def make_node(tiny: Bundle) -> Iterator[Callable[..., Re2pixNode]]:
    """A node in this process, that nothing spins: transitions are called."""
    nodes: list[Re2pixNode] = []

    def make(**parameters: object) -> Re2pixNode:
        given = {"bundle": tiny.path, "engine": "onnxruntime", "threads": 1, "autostart": False, **parameters}
        words = [word for name, value in given.items() for word in ("-p", f"{name}:={value}".replace("False", "false"))]
        rclpy.init(args=["--ros-args", *words])
        nodes.append(Re2pixNode())
        return nodes[-1]

    yield make
    end(nodes)
    rclpy.shutdown()
    gc.collect()  # what nodes held is global in part, and is given back with them


def end(nodes: list[Re2pixNode]) -> None:
    while nodes:
        node = nodes.pop()
        assert node.stop()
        node.destroy_node()


def held(node: Re2pixNode) -> tuple[int, int, int, int]:
    """How much of what a state may take is there."""
    publishers, subscriptions = len(list(node.publishers)), len(list(node.subscriptions))
    threads = sum(thread.name.startswith("re2pix") for thread in threading.enumerate())
    return publishers, subscriptions, len(logging.getLogger("re2pix_node.engines").handlers), threads


def test_failed_configures_leave_nothing(make_node: Callable[..., Re2pixNode]) -> None:
    node = make_node(horizons="[0, 9]")  # a horizon that the bundle does not have
    before = held(node)
    for _ in range(3):
        assert node.trigger_configure() == FAILURE
        assert "horizons names h9" in status(node)["message"]
    assert held(node) == before


def test_each_state_gives_back_what_it_takes(make_node: Callable[..., Re2pixNode]) -> None:
    node = make_node()
    unconfigured = held(node)
    assert node.trigger_configure() == SUCCESS
    inactive = held(node)
    assert inactive[0] > unconfigured[0]
    assert node.trigger_activate() == SUCCESS
    assert held(node)[1] == inactive[1] + 2
    assert node.trigger_deactivate() == SUCCESS
    assert held(node) == inactive
    assert node.trigger_cleanup() == SUCCESS
    assert held(node) == unconfigured


def test_a_failed_activate_leaves_nothing(make_node: Callable[..., Re2pixNode]) -> None:
    override = "qos_overrides./re2pix_node/input/image.subscription.reliability"
    node = make_node(**{override: "odd"})
    assert node.trigger_configure() == SUCCESS
    before = held(node)
    for _ in range(2):
        assert node.trigger_activate() == FAILURE
        assert status(node)["state"] == "inactive"
    assert held(node) == before


def test_diagnostics_begin_anew_with_each_configure(make_node: Callable[..., Re2pixNode]) -> None:
    node = make_node()
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    deadline = time.monotonic() + READY
    for i in itertools.count(1):
        assert time.monotonic() < deadline
        assert node._worker is not None
        node._worker.put(image(picture(i / 10), 10**18 + i * 10**8))
        time.sleep(0.02)
        told = status(node)
        if told.get("skill h1", "nan") != "nan":
            break
    assert int(told["forecasts published"]) > 0
    assert float(told["latency p50 (ms)"]) > 0
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert int(status(node)["forecasts published"]) > 0  # until another bundle comes
    assert node.trigger_configure() == SUCCESS
    told = status(node)
    assert told["forecasts published"] == "0"
    assert not [key for key in told if key.startswith(("skill", "latency", "encode"))]
    assert told["engine"].startswith("onnxruntime fp32")


def test_dropped_frames_are_counted_from_the_start_of_the_node(
    make_node: Callable[..., Re2pixNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    monkeypatch.setattr(FrameWorker, "_handle", lambda *_: time.sleep(0.2))
    dropped = []
    for start in (10**18, 2 * 10**18):
        if start > 10**18:
            assert node.trigger_cleanup() == SUCCESS
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        assert node._worker is not None
        for i in range(4 + WAITING):  # at most two of them are taken
            node._worker.put(image(picture(i / 10), start + i * 10**8))
        dropped.append(node._worker.dropped)
        assert node.trigger_deactivate() == SUCCESS
    assert dropped[0] >= 2
    assert dropped[1] >= dropped[0] + 2


def status(node: Re2pixNode) -> dict[str, str]:
    told = node._health.status("node")
    return {"message": told.message, **{pair.key: pair.value for pair in told.values}}
