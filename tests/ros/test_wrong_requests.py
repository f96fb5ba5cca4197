"""Requests and messages that are wrong: the node refuses them, says so, and goes on."""

import gc
import threading
from collections.abc import Iterator

import pytest
import rclpy
from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.lifecycle import TransitionCallbackReturn
from rosgraph_msgs.msg import Clock

from re2pix_node.bundle.reader import Bundle
from re2pix_node.common.quiet import Quiet
from re2pix_node.ros.node import Re2pixNode
from tests.support.ros_node import READY, Listener

# More than the types of rcl_interfaces/ParameterType, which end with 9.
NO_TYPES = (10, 42, 255)


class Asker(Listener):
    """Another node, beside an active node in this process that a thread spins."""

    def __init__(self, node: Re2pixNode) -> None:
        super().__init__("")
        self.tested = node
        self.lines = self.listen_log()
        self.fault: BaseException | None = None
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self.tested.spin()
        except BaseException as error:
            self.fault = error

    def change_by_id(self, transition: int) -> bool:
        return self.call("change_state", ChangeState.Request(transition=Transition(id=transition))).success

    def forget(self) -> None:
        """Lines of the log from now on, also of faults that were logged a moment ago."""
        self.spin(0.2)
        self.lines.clear()
        self.tested._log._quiet = Quiet()

    def end(self) -> BaseException | None:
        assert self.tested.stop()
        self.node.destroy_node()
        rclpy.shutdown()
        self._thread.join(10)
        self.tested.destroy_node()
        return self.fault


@pytest.fixture(scope="module")
def asker(tiny: Bundle) -> Iterator[Asker]:
    given = {"bundle": tiny.path, "engine": "onnxruntime", "threads": 1, "autostart": "false", "use_sim_time": "true"}
    words = (word for name, value in given.items() for word in ("-p", f"re2pix_node:{name}:={value}"))
    # The node of an earlier test would take /rosout from ours, which has its name, when Python removes it at last.
    gc.collect()
    rclpy.init(args=["--ros-args", *words])
    node = Re2pixNode()
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    asker = Asker(node)
    yield asker
    fault = asker.end()
    assert fault is None or isinstance(fault, rclpy.executors.ExternalShutdownException), repr(fault)


@pytest.mark.parametrize("transition", [3, 1, 0, 8, 99, 255])
def test_a_transition_that_is_not_available_is_refused(asker: Asker, transition: int) -> None:
    asker.forget()
    assert not asker.change_by_id(transition)
    assert asker.state() == "active"
    assert asker.wait(lambda: bool(asker.lines), READY)
    assert asker.lines == [
        f"transition {transition} is refused: the node is active, and can deactivate (4), shutdown (7)"
    ]


def test_transitions_work_after_refused_ones(asker: Asker) -> None:
    assert asker.change_by_id(4)
    assert not asker.change_by_id(4)
    assert not asker.change("deactivate")
    assert asker.state() == "inactive"
    assert asker.change_by_id(3)
    assert asker.state() == "active"


def test_parameters_of_no_type_are_refused(asker: Asker) -> None:
    rate = Parameter(name="max_rate", value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=5.0))
    wrong = [Parameter(name="max_age", value=ParameterValue(type=kind)) for kind in NO_TYPES]
    results = asker.call("set_parameters", SetParameters.Request(parameters=[*wrong, rate])).results
    assert [result.successful for result in results] == [False, False, False, True]
    assert "max_age has a value of type 42" in results[1].reason
    assert asker.tested._declared.settings.max_rate == 5.0


def test_one_parameter_of_no_type_refuses_all(asker: Asker) -> None:
    assert asker.set("max_rate", 5.0).successful
    rate = Parameter(name="max_rate", value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=7.0))
    for kind in NO_TYPES:
        wrong = Parameter(name="max_age", value=ParameterValue(type=kind))
        assert not set_together(asker, rate, wrong)
    text = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="no")
    assert not set_together(asker, rate, Parameter(name="use_sim_time", value=text))
    assert asker.tested._declared.settings.max_rate == asker.tested.get_parameter("max_rate").value == 5.0


def set_together(asker: Asker, *parameters: Parameter) -> bool:
    return asker.call(
        "set_parameters_atomically", SetParametersAtomically.Request(parameters=parameters)
    ).result.successful


def test_a_clock_before_the_epoch_is_ignored(asker: Asker) -> None:
    asker.forget()
    publisher = asker.node.create_publisher(Clock, "/clock", 10)
    assert asker.wait(lambda: publisher.get_subscription_count() > 0, READY)
    for second in (-5, -(2**31), -1):
        publisher.publish(Clock(clock=Time(sec=second)))
        asker.spin(0.05)
    assert asker.wait(lambda: bool(asker.lines), READY)
    publisher.publish(Clock(clock=Time(sec=123)))
    assert asker.wait(lambda: asker.tested.get_clock().now().nanoseconds == 123 * 10**9, READY)
    [line] = asker.lines  # one line for three messages
    assert line.startswith("/clock: what arrived is ignored: ValueError: ")


def test_a_message_that_cannot_be_taken_blocks_no_other(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    # rclpy then keeps the node's callbacks occupied for good.
    asker.forget()
    clock = next(each for each in asker.tested.subscriptions if each.topic_name == "/clock")
    publisher = asker.node.create_publisher(Clock, "/clock", 10)
    assert asker.wait(lambda: publisher.get_subscription_count() > 0, READY)
    with monkeypatch.context() as patched:
        patched.setattr(clock, "msg_type", int)
        publisher.publish(Clock(clock=Time(sec=7)))
        assert asker.wait(lambda: bool(asker.lines), READY)
    assert "/clock: what arrived is ignored" in asker.lines[0]
    assert asker.state() == "active"
    publisher.publish(Clock(clock=Time(sec=9)))
    assert asker.wait(lambda: asker.tested.get_clock().now().nanoseconds == 9 * 10**9, READY)


def test_a_request_that_raises_gets_an_answer(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(asker.tested, "set_parameters_atomically", broken)
    assert asker.set("max_rate", 1.0).reason == "RuntimeError: unforeseen"
    monkeypatch.setattr(asker.tested, "get_parameter", broken)
    asker.forget()
    assert not asker.call("get_parameters", GetParameters.Request(names=["max_rate"])).values
    assert asker.wait(lambda: bool(asker.lines), READY)
    assert asker.lines == ["get_parameters: a request is refused: RuntimeError: unforeseen"]
