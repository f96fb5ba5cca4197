"""Starts the forecast node on a camera:

ros2 launch re2pix_node forecast.launch.py image:=/camera/image
"""

from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds.xml"

# name, default, description. Empty means not given: then params_file decides, or the default of the node.
ARGUMENTS: tuple[tuple[str, str, str], ...] = (
    ("image", "", "Topic of the camera's images; empty: ~/input/image"),
    ("camera_info", "", "Topic of the camera's calibration; empty: camera_info beside the images"),
    ("image_transport", "", "Type of the images: raw or compressed"),
    ("bundle", "", "Folder of the model bundle, or the name of one that ships"),
    ("engine", "", "Engine that runs the model: auto, or one that `re2pix doctor` lists"),
    ("autostart", "", "true: configure and activate at start; false: wait for `ros2 lifecycle set`"),
    ("use_sim_time", "", "true: time comes from /clock"),
    ("params_file", "", "YAML file of parameters, like config/re2pix_node.yaml; arguments given here win over it"),
    ("namespace", "", "Namespace of the node"),
    ("name", "re2pix_node", "Name of the node"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)
TEXTS = ("bundle", "engine", "image_transport")
FLAGS = ("autostart", "use_sim_time")


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value, description=what) for name, value, what in ARGUMENTS),
            *_environment(),
            OpaqueFunction(function=_node),
        ]
    )


def _environment() -> list[SetEnvironmentVariable]:
    """The environment of scripts/env.sh, for this node and all launched after it; the user's values are kept."""
    return [
        _unless_set("FASTRTPS_DEFAULT_PROFILES_FILE", str(PROFILE)),
        # The same by its name since Fast DDS 3.
        _unless_set("FASTDDS_DEFAULT_PROFILES_FILE", EnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE")),
        _unless_set("MALLOC_MMAP_THRESHOLD_", "268435456"),
        _unless_set("MALLOC_TRIM_THRESHOLD_", "536870912"),
    ]


def _unless_set(name: str, value: Any) -> SetEnvironmentVariable:
    return SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=value))


def _node(context: LaunchContext) -> list[Node]:
    value = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    return [
        Node(
            package="re2pix_node",
            executable="re2pix_node",
            # Set both: only parameters under the full name win over a file that uses the full name.
            name=value["name"],
            namespace=value["namespace"],
            parameters=_parameters(value),
            remappings=_remappings(value["image"], value["camera_info"]),
            ros_arguments=["--log-level", value["log_level"]],
            output="screen",
        )
    ]


def _parameters(value: dict[str, str]) -> list[Any]:
    given: dict[str, Any] = {name: ParameterValue(value[name], value_type=str) for name in TEXTS if value[name]}
    given |= {name: _flag(name, value[name]) for name in FLAGS if value[name]}
    return [*_file(value["params_file"]), *([given] if given else [])]


def _flag(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise RuntimeError(f"{name}:={value} is neither true nor false")
    return value.lower() == "true"


def _file(path: str) -> list[str]:
    # launch itself would ignore a missing file.
    if path and not Path(path).is_file():
        raise RuntimeError(f"params_file:={path} is not a file")
    return [path] if path else []


def _remappings(image: str, camera_info: str) -> list[tuple[str, str]]:
    if image and not camera_info:
        # As in image_transport: /camera/image and /camera/image/compressed belong to /camera/camera_info.
        camera_info = "/".join([*image.removesuffix("/compressed").split("/")[:-1], "camera_info"])
    topics = {"~/input/image": image, "~/input/camera_info": camera_info}
    return [(ours, theirs) for ours, theirs in topics.items() if theirs]
