"""Refuses requests on which rclpy raises an error, which ends the node and leaves the client without an answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter as RosParameter

from re2pix_node.common.wording import described
from re2pix_node.pipeline.events import InputRefused

Callback = Callable[[Any, Any], Any]
Refused = Callable[[InputRefused], None]
_TYPES = {kind.value for kind in RosParameter.Type}


def guard_services(node: LifecycleNode, refused: Refused) -> None:
    """Let every service of the node answer every request; `refused` gets the reasons."""
    callbacks = {_name(service): service.callback for service in node.services}
    while_waiting = ReentrantCallbackGroup()
    guarded = {
        "change_state": _available(callbacks, refused),
        "set_parameters": _set_each(callbacks["set_parameters"]),
        "set_parameters_atomically": _set_all(callbacks["set_parameters_atomically"]),
    }
    for service in node.services:
        service.callback = _answering(guarded.get(_name(service), service.callback), service, refused)
        # A callback that waits, such as configuring, can let the executor answer other requests meanwhile.
        service.callback_group = while_waiting
        while_waiting.add_entity(service)


def _name(service: Any) -> str:
    return str(service.srv_name.rpartition("/")[2])


def _answering(callback: Callback, service: Any, refused: Refused) -> Callback:
    """An error becomes an empty answer, which says that nothing was done."""

    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            refused(InputRefused(_name(service), f"{_name(service)}: a request is refused: {described(error)}"))
            return service.srv_type.Response()

    return answer


def _available(callbacks: Mapping[str, Callback], refused: Refused) -> Callback:
    """A transition that the present state does not have is refused by name."""

    def change(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        told = callbacks["get_available_transitions"](None, GetAvailableTransitions.Response())
        known = {each.transition.label: each.transition.id for each in told.available_transitions}
        # While the node configures, those of the state machine itself are available too.
        known = {label: number for label, number in known.items() if number <= Transition.TRANSITION_DESTROY}
        asked = request.transition
        if asked.label in known or (not asked.label and asked.id in known.values()):
            return callbacks["change_state"](request, response)
        state = callbacks["get_state"](None, GetState.Response()).current_state.label
        choice = ", ".join(f"{label} ({number})" for label, number in known.items())
        title = asked.label or asked.id
        why = f"transition {title} is refused: the node is {state}, and can {choice or 'do none'}"
        refused(InputRefused("change_state", why))
        response.success = False
        return response

    return change


def _set_each(callback: Callback) -> Callback:
    """Each parameter has a result of its own, also one that rclpy cannot read."""

    def set_one(parameter: Any) -> SetParametersResult:
        try:
            return callback(SetParameters.Request(parameters=[parameter]), SetParameters.Response()).results[0]
        except Exception as error:
            return _refusal([parameter], error)

    def set_each(request: SetParameters.Request, response: SetParameters.Response) -> SetParameters.Response:
        response.results = [set_one(parameter) for parameter in request.parameters]
        return response

    return set_each


def _set_all(callback: Callback) -> Callback:
    """One parameter that rclpy cannot read refuses them all."""

    def set_all(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            response.result = _refusal(request.parameters, error)
            return response

    return set_all


def _refusal(parameters: Sequence[Any], error: Exception) -> SetParametersResult:
    wrong = next((each for each in parameters if each.value.type not in _TYPES), None)
    if wrong is None:
        return SetParametersResult(successful=False, reason=described(error))
    why = f"{wrong.name} has a value of type {wrong.value.type}, which is not in rcl_interfaces/ParameterType"
    return SetParametersResult(successful=False, reason=why)
