"""The parameters of a running node: checks the values given at start and every later change."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from re2pix_node.errors import Re2pixError
from re2pix_node.ros.parameters import Kind, NodeSettings, Parameter, When, parameters

_TYPES = {
    Kind.BOOL: RosParameter.Type.BOOL,
    Kind.INT: RosParameter.Type.INTEGER,
    Kind.DOUBLE: RosParameter.Type.DOUBLE,
    Kind.STRING: RosParameter.Type.STRING,
    Kind.INTS: RosParameter.Type.INTEGER_ARRAY,
    Kind.STRINGS: RosParameter.Type.STRING_ARRAY,
}


class DeclaredParameters:
    """Declares every parameter of the table on the node; `settings` holds their values, which are always allowed.

    `unconfigured` says whether parameters that are read at configure may change now. After each change, `changed` is
    called with the new settings, in the executor's thread.
    """

    def __init__(self, node: Node, unconfigured: Callable[[], bool], changed: Callable[[NodeSettings], None]) -> None:
        self._node = node
        self._unconfigured = unconfigured
        self._changed = changed
        self._table = parameters()
        # First with any type, so that a value that is not allowed gives our message and not rclpy's.
        given = {parameter.name: self._given(parameter) for parameter in self._table}
        self._settings = NodeSettings.of(given)
        values = asdict(self._settings)
        for parameter in self._table:
            # Store a list with its type, because an empty list has none.
            value = list(values[parameter.name]) if parameter.kind.entries else values[parameter.name]
            node.set_parameters([RosParameter(parameter.name, _TYPES[parameter.kind], value)])
            node.set_descriptor(parameter.name, _descriptor(parameter))
        node.add_on_set_parameters_callback(self._take)

    @property
    def settings(self) -> NodeSettings:
        return self._settings

    def _given(self, parameter: Parameter) -> Any:
        descriptor = ParameterDescriptor(dynamic_typing=True)
        value = self._node.declare_parameter(parameter.name, parameter.default, descriptor).value
        # ROS reads an empty list on the command line or in a file as "no value".
        return () if value is None and parameter.kind.entries else value

    def _take(self, proposed: Sequence[RosParameter]) -> SetParametersResult:
        """Adopt all proposed values or refuse them all.

        rclpy stores them directly after this. ROS 2 Humble, unlike later versions, has no callback after that.
        """
        # Parameters of ROS itself (use_sim_time, qos_overrides) are not in the settings. rclpy checks this one after
        # this callback, when the others would already be adopted.
        for parameter in proposed:
            if parameter.name == "use_sim_time" and parameter.type_ is not RosParameter.Type.BOOL:
                return SetParametersResult(successful=False, reason="use_sim_time must be true or false")
        changes = {parameter.name: parameter.value for parameter in proposed}
        try:
            new = NodeSettings.of({**asdict(self._settings), **changes})
            for parameter in self._table:
                name = parameter.name
                if parameter.when is When.CONFIGURE and getattr(new, name) != getattr(self._settings, name):
                    self._refuse_unless_unconfigured(name)
        except Re2pixError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if new != self._settings:
            self._settings = new
            self._changed(new)
        return SetParametersResult(successful=True)

    def _refuse_unless_unconfigured(self, name: str) -> None:
        if not self._unconfigured():
            cleanup = f"ros2 lifecycle set {self._node.get_fully_qualified_name()} cleanup"
            raise Re2pixError(
                f"{name} can change only while the node is unconfigured: {cleanup} (if active, deactivate first)"
            )


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    """The text of `ros2 param describe`, and the range for sliders."""
    descriptor = ParameterDescriptor(
        type=_TYPES[parameter.kind].value,
        description=parameter.description,
        additional_constraints=f"{parameter.allowed}; may change {parameter.when.value}".removeprefix("; "),
        read_only=parameter.when is When.START,
        # An integer is accepted for a double, and an empty list has no type.
        dynamic_typing=parameter.kind not in (Kind.BOOL, Kind.INT, Kind.STRING),
    )
    if parameter.low is not None and parameter.kind is Kind.INT:
        descriptor.integer_range = [IntegerRange(from_value=int(parameter.low), to_value=int(parameter.high))]
    if parameter.low is not None and parameter.kind is Kind.DOUBLE:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(parameter.low), to_value=float(parameter.high))
        ]
    return descriptor
