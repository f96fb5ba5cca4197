"""While a bundle is loaded the node answers, and a bundle that never ends costs a line."""

import os
import threading
import time
from pathlib import Path

import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters
from rclpy.executors import ExternalShutdownException

from re2pix_node.bundle.reader import Bundle
from re2pix_node.ros.node import Re2pixNode
from tests.support import hostile_graphs
from tests.support.ros_node import READY, Listener


@pytest.fixture
def endless(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with a loop of 2^62 rounds, which is ended after some seconds."""
    monkeypatch.delenv("RE2PIX_TRIAL")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RE2PIX_MAX_LOAD_SECONDS", "5")
    data = hostile_graphs.endless((tiny.path / "encode.onnx").read_bytes())
    return hostile_graphs.with_graph(tiny.path, tmp_path / "endless", encode=data)


def test_the_node_answers_while_it_loads(endless: Path, tiny: Bundle) -> None:
    given = {"bundle": endless, "engine": "onnxruntime", "threads": 1, "autostart": "false"}
    words = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    namespace = f"/loading_{os.getpid()}"
    rclpy.init(args=["--ros-args", "-r", f"re2pix_node:__ns:={namespace}", *words])
    tested, listener = Re2pixNode(), Listener(namespace)
    faults: list[BaseException] = []

    def spin() -> None:
        try:
            tested.spin()
        except ExternalShutdownException:
            pass
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        client = listener._clients["change_state"]
        assert client.wait_for_service(READY)
        configuring = client.call_async(ChangeState.Request(transition=Transition(id=1)))
        assert listener.wait(lambda: listener.state() == "configuring", READY)
        begun = time.monotonic()
        names = GetParameters.Request(names=["engine"])
        assert listener.call("get_parameters", names).values[0].string_value == "onnxruntime"
        for wrong in ({"id": 1}, {"id": 10}, {"label": "transition_success"}):
            request = ChangeState.Request(transition=Transition(**wrong))
            assert not listener.call("change_state", request).success
        assert not listener.set("bundle", str(tiny.path)).successful
        assert listener.call("get_state", GetState.Request()).current_state.label == "configuring"
        assert time.monotonic() - begun < 5
        assert listener.wait(configuring.done, READY)
        assert not configuring.result().success
        assert listener.state() == "unconfigured"
        assert listener.wait(lambda: "the limit is 5 seconds" in listener.message, READY)
        assert "onnxruntime fp32: it hung and was ended" in listener.message
        assert listener.set("bundle", str(tiny.path)).successful
        assert listener.change("configure")
    finally:
        listener.node.destroy_node()
        tested.stop()
        rclpy.shutdown()
        thread.join(10)
        tested.destroy_node()
    assert not faults
