"""The launch files: the processes that they would start, and the real `ros2 launch` if it is installed."""

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ament_index_python.packages import get_package_prefix
from rcl_interfaces.srv import GetParameters
from re2pix_msgs.msg import Forecast

from re2pix_node.bundle.reader import Bundle
from re2pix_node.commands.play import add_arguments
from re2pix_node.pipeline.messages import stamp_of
from tests.support.ros_node import READY, ROOT, Listener, listener, ros, start  # noqa: F401

pytest.importorskip("launch_ros.actions", reason="launch_ros comes with a ROS 2 distribution, not from PyPI")

from launch import LaunchContext, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

FORECAST, REPLAY = ROOT / "launch" / "forecast.launch.py", ROOT / "launch" / "replay.launch.py"
PROFILE = str(ROOT / "config" / "fastdds.xml")
FORECAST_ARGUMENTS = {
    *("image", "camera_info", "image_transport", "bundle", "engine", "autostart", "use_sim_time", "params_file"),
    *("namespace", "name", "log_level"),
}
REPLAY_ARGUMENTS = FORECAST_ARGUMENTS | {"bag", "topic", "rate", "loop", "player", "qos_overrides"}
ENVIRONMENT = (
    *("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"),
    *("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"),
)


# Stands in for the node where only the way it is started matters: leaves word of that, and ends.
STAND_IN = """#!{python}
import json, os, pathlib, sys
files = [value for option, value in zip(sys.argv, sys.argv[1:]) if option == "--params-file"]
environment = {{name: os.environ.get(name) for name in {environment}}}
texts = [pathlib.Path(file).read_text() for file in files]
pathlib.Path({word!r}).write_text(json.dumps([sys.argv[1:], environment, texts]))
"""


@dataclass(frozen=True)
class Started:
    """How the node was started."""

    arguments: list[str]
    environment: dict[str, str]
    parameters: list[dict[str, Any]]  # of each parameter file, in the order in which they count

    def options(self, flag: str) -> list[str]:
        return [value for option, value in itertools.pairwise(self.arguments) if option == flag]


Launch = Callable[..., Started]


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Launch:
    """Run a launch file with a stand-in for the node; raise launch's errors."""
    word = tmp_path / "word.json"
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    executable = tmp_path / "lib" / "re2pix_node" / "re2pix_node"
    for folder in (index, executable.parent):
        folder.mkdir(parents=True)
    (index / "re2pix_node").touch()
    executable.write_text(STAND_IN.format(python=sys.executable, environment=ENVIRONMENT, word=str(word)))
    executable.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}")

    def run(path: Path, **arguments: str) -> Started:
        service = LaunchService(noninteractive=True)
        source = PythonLaunchDescriptionSource(str(path))
        service.include_launch_description(IncludeLaunchDescription(source, launch_arguments=arguments.items()))
        if service.run():
            raise RuntimeError(caplog.text)
        command, environment, texts = json.loads(word.read_text())
        return Started(command, environment, [yaml.safe_load(text) for text in texts])

    return run


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Launch files change the environment of the process that runs them, here this one."""
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("path", "names"), [(FORECAST, FORECAST_ARGUMENTS), (REPLAY, REPLAY_ARGUMENTS)])
def test_every_argument_is_described(path: Path, names: set[str]) -> None:
    arguments = load(path).generate_launch_description().get_launch_arguments()
    assert {argument.name for argument in arguments} == names
    assert all(len(argument.description) > 10 for argument in arguments)
    required = {argument.name for argument in arguments if argument.default_value is None}
    assert required == ({"bag", "topic"} if path == REPLAY else set())


def test_what_is_not_given_is_left_to_the_node(launch: Launch) -> None:
    started = launch(FORECAST)
    assert started.options("--log-level") == ["info"]
    assert started.options("-r") == ["__node:=re2pix_node", "__ns:=/"]
    assert started.parameters == []


def test_arguments_become_parameters_of_their_own_type(launch: Launch) -> None:
    texts = {"bundle": "007", "engine": "onnxruntime", "image_transport": "compressed"}
    flags = {"autostart": "False", "use_sim_time": "true"}
    started = launch(FORECAST, namespace="front", name="eyes", log_level="debug", **texts, **flags)
    assert started.options("-r") == ["__node:=eyes", "__ns:=/front"]
    assert started.options("--log-level") == ["debug"]
    # Under the full name of the node, or a file that uses it would win.
    assert started.parameters == [
        {"/front/eyes": {"ros__parameters": {**texts, "autostart": False, "use_sim_time": True}}}
    ]


def test_arguments_come_after_the_parameter_file(launch: Launch, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    mine = {"/**": {"ros__parameters": {"engine": "openvino", "threads": 1}}}
    file.write_text(yaml.safe_dump(mine))
    assert launch(FORECAST, params_file=str(file)).parameters == [mine]
    started = launch(FORECAST, params_file=str(file), engine="onnxruntime")
    assert started.parameters == [mine, {"/re2pix_node": {"ros__parameters": {"engine": "onnxruntime"}}}]


@pytest.mark.parametrize(
    ("image", "camera_info", "expected"),
    [
        ("/camera/image", "", "/camera/camera_info"),
        ("/camera/image/compressed", "", "/camera/camera_info"),
        ("/image_raw", "", "/camera_info"),
        ("image_raw", "", "camera_info"),
        ("/camera/image", "/elsewhere", "/elsewhere"),
    ],
)
def test_the_camera_is_remapped(launch: Launch, image: str, camera_info: str, expected: str) -> None:
    started = launch(FORECAST, image=image, camera_info=camera_info)
    assert started.options("-r")[2:] == [f"~/input/image:={image}", f"~/input/camera_info:={expected}"]


@pytest.mark.parametrize(
    ("mine", "expected"),
    [
        ("", [PROFILE, PROFILE, "268435456", "536870912"]),
        ("FASTRTPS_DEFAULT_PROFILES_FILE", ["mine", "mine", "268435456", "536870912"]),
        ("FASTDDS_DEFAULT_PROFILES_FILE", [PROFILE, "mine", "268435456", "536870912"]),
        ("MALLOC_TRIM_THRESHOLD_", [PROFILE, PROFILE, "268435456", "mine"]),
    ],
)
def test_the_environment_is_set_for_images_but_the_users_is_kept(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, mine: str, expected: list[str]
) -> None:
    assert Path(PROFILE).is_file()
    if mine:
        monkeypatch.setenv(mine, "mine")
    assert list(launch(FORECAST).environment.values()) == expected


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        (FORECAST, {"params_file": "/nowhere.yaml"}, "params_file:=/nowhere.yaml is not a file"),
        (FORECAST, {"autostart": "maybe"}, "autostart:=maybe is neither true nor false"),
        (FORECAST, {"use_sim_time": "1"}, "use_sim_time:=1 is neither true nor false"),
        (
            REPLAY,
            {"bag": "b", "topic": "/a", "image": "/c"},
            "image:=/c is not possible in a replay: topic:= says where",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    launch: Launch, path: Path, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        launch(path, **arguments)


@pytest.mark.parametrize(
    ("topic", "told", "expected"),
    [
        ("/camera/image/compressed", {}, {"image_transport": "compressed"}),
        ("/camera/image", {}, {}),
        ("/camera/image/compressed", {"image_transport": "raw"}, {"image_transport": "raw"}),
    ],
)
def test_a_replay_aims_the_node_at_the_recorded_topic(
    launch: Launch, topic: str, told: dict[str, str], expected: dict[str, str]
) -> None:
    started = launch(REPLAY, bag="drive", topic=topic, **told)
    assert started.options("-r")[2:] == [f"~/input/image:={topic}", "~/input/camera_info:=/camera/camera_info"]
    assert started.parameters == [{"/re2pix_node": {"ros__parameters": {**expected, "use_sim_time": True}}}]


def player(**arguments: str) -> list[str]:
    """The command that would play a bag."""
    replay = load(REPLAY)
    values = {"bag": "drive", "topic": "/camera/image", "camera_info": "", "player": "auto", "rate": "1.0"}
    values |= {"loop": "false", "qos_overrides": str(replay.QOS_OVERRIDES), **arguments}
    return [part if isinstance(part, str) else part.perform(LaunchContext()) for part in replay._command(values)]


def test_our_own_player_plays_where_rosbag2_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(Path(get_package_prefix("re2pix_node"))))
    executable, *command = player(rate="2.0", loop="true")
    assert executable.endswith("/lib/re2pix_node/re2pix")
    assert command.pop(0) == "play"
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    taken = parser.parse_args(command)
    assert (taken.recording, taken.topic, taken.to) == (Path("drive"), "/camera/image", None)
    assert (taken.rate, taken.loop, taken.clock, taken.wait) == (2.0, True, True, True)


def test_rosbag2_plays_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "ros2bag").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}")
    overrides = ROOT / "config" / "qos_overrides.yaml"
    assert player() == [
        *("ros2", "bag", "play", "drive", "--topics", "/camera/image", "/camera/camera_info"),
        *("--qos-profile-overrides-path", str(overrides), "--delay", "1.0", "--disable-keyboard-controls"),
        *("--clock", "--rate", "1.0"),
    ]
    assert overrides.is_file()
    assert player(player="re2pix")[1] == "play"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"player": "vlc"}, "player:=vlc is not one of auto, rosbag2, re2pix"),
        ({"loop": "twice"}, "loop:=twice is neither true nor false"),
    ],
)
def test_ways_to_play_that_there_are_not_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        player(**arguments)


# --- the real thing ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ros2_launch(path: Path, **arguments: object) -> Iterator["subprocess.Popen[str]"]:
    ros2 = shutil.which("ros2")
    if not ros2:
        pytest.skip("ros2 is not installed: ros2cli comes with a ROS 2 distribution, not from PyPI")
    process = start(ros2, "launch", path, *(f"{name}:={value}" for name, value in arguments.items()))
    try:
        yield process
    finally:
        # So that the node ends, too, which ros2 launch leaves behind when it is killed.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        finally:
            process.kill()


def test_ros2_launch_runs_the_node(tiny: Bundle, listener: Listener, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({listener.name: {"ros__parameters": {"bundle": "/nowhere", "threads": 1}}}))
    arguments = {"namespace": listener.namespace, "params_file": file, "bundle": tiny.path, "image": "/camera/image"}
    with ros2_launch(FORECAST, **arguments) as process:
        assert listener.wait(lambda: listener.status.get("state") == "active", READY), listener.message
        assert listener.state() == "active"
        answer = listener.call("get_parameters", GetParameters.Request(names=["bundle", "threads"]))
        assert [answer.values[0].string_value, answer.values[1].integer_value] == [str(tiny.path), 1]
        subscribed = listener.node.get_subscriptions_info_by_topic("/camera/image")
        assert [info.node_namespace for info in subscribed] == [listener.namespace]
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert "process has finished cleanly" in output


def test_ros2_launch_replays_a_bag_and_ends(tiny: Bundle, drive_bag: Path, listener: Listener) -> None:  # noqa: F811
    forecasts = listener.listen(Forecast, "forecast")
    arguments = {"namespace": listener.namespace, "bundle": tiny.path, "bag": drive_bag, "player": "re2pix"}
    with ros2_launch(REPLAY, topic="/camera/image/compressed", **arguments) as process:
        assert listener.wait(lambda: process.poll() is not None, 2 * READY)
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert output.count("process has finished cleanly") == 2, output
    # Three seconds at 30 Hz; the first frames have no context, and a busy machine loses some.
    assert len(forecasts) > 20
    # The clock was that of the recording.
    assert all(message.age.sec < 60 for message in forecasts)
    assert stamp_of(forecasts[-1].header) > stamp_of(forecasts[0].header)
