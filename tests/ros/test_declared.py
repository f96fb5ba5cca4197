"""Parameters of a real lifecycle node: given at start, and set by a client in another node over DDS."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient

from re2pix_node.errors import Re2pixError
from re2pix_node.ros.declared import DeclaredParameters
from re2pix_node.ros.parameters import NodeSettings, parameters

NAMES = (f"forecaster_{i}" for i in itertools.count())
UNCONFIGURED = "can change only while the node is unconfigured: ros2 lifecycle set "


class Served:
    """A node with our parameters, and a client of it."""

    def __init__(self, *arguments: str, unconfigured: bool = True) -> None:
        cli = ["--ros-args", *arguments]
        self.node = LifecycleNode(next(NAMES), namespace="/front", cli_args=cli, enable_communication_interface=False)
        self.unconfigured = unconfigured
        self.told: list[NodeSettings] = []
        try:
            self.declared = DeclaredParameters(self.node, lambda: self.unconfigured, self.told.append)
        except BaseException:
            self.node.destroy_node()
            raise
        self.other = rclpy.create_node(f"{self.node.get_name()}_client")
        self.client = AsyncParameterClient(self.other, self.node.get_fully_qualified_name())
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.other)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.other.destroy_node()

    def wait(self, future: Any) -> Any:
        self.executor.spin_until_future_complete(future, timeout_sec=30)
        assert future.done()
        return future.result()

    def set(self, **values: object) -> list[SetParametersResult]:
        """Each for itself, as `ros2 param set` does."""
        assert self.client.wait_for_services(30)
        return self.wait(self.client.set_parameters([parameter(*item) for item in values.items()])).results

    def set_together(self, **values: object) -> SetParametersResult:
        assert self.client.wait_for_services(30)
        return self.wait(self.client.set_parameters_atomically([parameter(*item) for item in values.items()])).result

    def refused(self, **values: object) -> str:
        (result,) = self.set(**values)
        assert not result.successful
        assert "\n" not in result.reason
        return result.reason

    def stored(self, name: str) -> Any:
        return self.node.get_parameter(name).value


def parameter(name: str, value: object) -> Parameter:
    # As `ros2 param set` has it: an empty list comes as one of booleans.
    return Parameter(name, Parameter.Type.BOOL_ARRAY, []) if value == [] else Parameter(name, value=value)


@pytest.fixture(autouse=True, scope="module")
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def started(*arguments: str) -> NodeSettings:
    made = Served(*arguments)
    made.close()
    return made.declared.settings


def test_defaults(served: Served) -> None:
    assert served.declared.settings == NodeSettings.of({})
    assert not served.told


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ("max_rate:=10", "max_rate", 10.0),
        ("max_rate:=2.5", "max_rate", 2.5),
        ("horizons:=[0,3]", "horizons", (0, 3)),
        ("horizons:=[]", "horizons", ()),
        ("outputs:=[]", "outputs", ()),
        ("outputs:=[preview,segmentation]", "outputs", ("preview", "segmentation")),
        ("fit:=''", "fit", ""),
        ("autostart:=false", "autostart", False),
        ("bundle:=/a/b", "bundle", "/a/b"),
    ],
)
def test_values_given_at_start(given: str, field: str, expected: object) -> None:
    made = Served("-p", given)
    try:
        assert made.declared.settings == NodeSettings.of({field: expected})
        stored = made.stored(field)
        assert type(getattr(made.declared.settings, field)) is type(expected)
        assert (tuple(stored) if isinstance(expected, tuple) else stored) == expected
    finally:
        made.close()


def test_values_in_a_file_may_be_overruled_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    engine: onnxruntime\n    horizons: [1]\n    outputs: []\n    max_age: 1\n"
    )
    settings = started("--params-file", str(file), "-p", "horizons:=[2]")
    assert settings == NodeSettings.of({"engine": "onnxruntime", "horizons": [2], "outputs": [], "max_age": 1.0})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("max_rate:=-3", "max_rate must lie from 0 to 1000, is -3"),
        ("max_rate:=1e9", "max_rate must lie from 0 to 1000, is 1000000000.0"),
        ("max_rate:=fast", "max_rate must be a number, is 'fast'"),
        ("max_age:=[]", "max_age must be a number, is not set"),
        ("threads:=1.5", "threads must be a whole number, is 1.5"),
        ("threads:=300", "threads must lie from 0 to 256, is 300"),
        ("autostart:=1", "autostart must be true or false, is 1"),
        ("bundle:=''", "bundle must not be empty, is ''"),
        ("bundle:=7", "bundle must be text, is 7"),
        ("fit:=squeeze", "fit must be one of '' (empty), crop, stretch, pad, is 'squeeze'"),
        ("horizons:=2", "horizons must be a list of whole numbers, as in [0, 3], is 2"),
        ("horizons:=[1.5]", "entries of horizons must be a whole number, one is 1.5"),
        ("horizons:=[0,-1]", "entries of horizons must lie from 0 to 99, one is -1"),
    ],
)
def test_bad_values_at_start_are_told_in_one_line(given: str, expected: str) -> None:
    with pytest.raises(Re2pixError) as raised:
        started("-p", given)
    assert str(raised.value) == expected


def test_live_parameters_take_effect_at_once(served: Served) -> None:
    served.unconfigured = False
    results = served.set(max_rate=10, max_age=0.5, seed=7, preview_rate=0.0)
    assert [result.successful for result in results] == [True] * 4, results
    expected = NodeSettings.of({"max_rate": 10.0, "max_age": 0.5, "seed": 7, "preview_rate": 0.0})
    assert served.declared.settings == expected
    assert len(served.told) == 4
    assert served.told[-1] == expected
    served.set(seed=7)
    assert len(served.told) == 4  # nothing changed


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_rate", -3, "max_rate must lie from 0 to 1000, is -3"),
        ("max_rate", "fast", "max_rate must be a number, is 'fast'"),
        ("max_rate", True, "max_rate must be a number, is true"),
        ("max_rate", None, "max_rate must be a number, is not set"),
        ("engine", "abacus", "engine must be one of auto, "),
        ("outputs", ["preview", "masks"], "one is 'masks'"),
        ("horizons", [0, -1], "entries of horizons must lie from 0 to 99, one is -1"),
        # These are refused by rclpy itself, from the descriptor.
        ("max_rate", 1000.5, "max_rate out of range"),
        ("max_rate", float("nan"), "max_rate out of range"),
        ("seed", -1, "seed out of range"),
        ("seed", 1.5, "Wrong parameter type, expected 'Type.INTEGER' got 'Type.DOUBLE'"),
        ("bundle", 7, "Wrong parameter type, expected 'Type.STRING' got 'Type.INTEGER'"),
        ("autostart", False, "read-only parameter: autostart"),
    ],
)
def test_bad_values_are_refused_with_the_reason(served: Served, name: str, value: object, expected: str) -> None:
    before = served.stored(name)
    assert expected in served.refused(**{name: value})
    assert served.stored(name) == before
    assert served.declared.settings == NodeSettings.of({})
    assert not served.told


def test_parameters_read_at_configure_change_while_unconfigured_only(served: Served) -> None:
    assert all(result.successful for result in served.set(bundle="/a", horizons=[1, 2], outputs=[], threads=2))
    expected = NodeSettings.of({"bundle": "/a", "horizons": [1, 2], "outputs": [], "threads": 2})
    assert served.declared.settings == expected
    served.unconfigured = False
    name = served.node.get_fully_qualified_name()
    assert name.startswith("/front/")
    for change in ({"bundle": "/b"}, {"horizons": []}, {"outputs": ["preview"]}, {"threads": 3}):
        assert served.refused(**change) == (
            f"{next(iter(change))} {UNCONFIGURED}{name} cleanup (if active, deactivate first)"
        )
    assert served.declared.settings == expected
    # A file that is loaded again gives what is there already.
    assert all(result.successful for result in served.set(bundle="/a", horizons=[1, 2], outputs=[]))
    served.unconfigured = True
    assert served.set(horizons=[])[0].successful
    assert served.declared.settings.horizons == ()


def test_of_values_set_together_one_bad_one_refuses_all(served: Served) -> None:
    result = served.set_together(max_rate=10.0, seed=3, preview_rate=-1)
    assert not result.successful
    assert result.reason == "preview_rate must lie from 0 to 60, is -1"
    served.unconfigured = False
    assert UNCONFIGURED in served.set_together(max_rate=10.0, fit="pad").reason
    # One of another owner's.
    assert not served.set_together(max_rate=10.0, use_sim_time="yes").successful
    assert served.declared.settings == NodeSettings.of({})
    assert not served.told
    assert served.set_together(max_rate=10.0, seed=3).successful
    assert served.told == [NodeSettings.of({"max_rate": 10.0, "seed": 3})]


def test_parameters_of_others_pass(served: Served) -> None:
    served.unconfigured = False
    served.node.declare_parameter("qos_overrides./camera.subscription.depth", 1)
    results = served.set(use_sim_time=True, **{"qos_overrides./camera.subscription.depth": 5})
    assert all(result.successful for result in results)
    assert served.stored("use_sim_time") is True
    assert not served.told


def test_descriptors_say_what_the_table_says(served: Served) -> None:
    assert served.client.wait_for_services(30)
    names = [parameter.name for parameter in parameters()]
    described: list[ParameterDescriptor] = served.wait(served.client.describe_parameters(names)).descriptors
    assert [descriptor.name for descriptor in described] == names
    for parameter, descriptor in zip(parameters(), described, strict=True):
        assert descriptor.description == parameter.description
        assert parameter.allowed in descriptor.additional_constraints
        assert parameter.when.value in descriptor.additional_constraints
        assert descriptor.read_only == (parameter.name == "autostart")
    by_name = dict(zip(names, described, strict=True))
    assert by_name["max_rate"].floating_point_range[0].to_value == 1000.0
    assert by_name["threads"].integer_range[0].to_value == 256
    types = {name: Parameter.Type(descriptor.type).name for name, descriptor in by_name.items()}
    assert types["horizons"] == "INTEGER_ARRAY"
    assert types["max_rate"] == "DOUBLE"
    assert types["bundle"] == "STRING"
