"""Plays a bag through the forecast node and ends with the bag:

    ros2 launch re2pix_node replay.launch.py bag:=data/drive_90002 topic:=/camera/image/compressed

It also takes the arguments of forecast.launch.py.
"""

from pathlib import Path

from ament_index_python.packages import get_packages_with_prefixes
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetLaunchConfiguration,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.ros_adapters import get_ros_node
from launch_ros.substitutions import ExecutableInPackage

HERE = Path(__file__).resolve().parent
QOS_OVERRIDES = HERE.parent / "config" / "qos_overrides.yaml"
LOOK_AGAIN = 0.2  # s
LAST_FORECAST = 1.0  # s for the forecasts of the last frames to come out

REQUIRED = {
    "bag": "The recording: a rosbag2 folder, or an .mcap file",
    "topic": "Topic of the camera's images in the recording",
}
# name, default, description
OPTIONAL = (
    ("rate", "1.0", "2.0 plays twice as fast"),
    ("loop", "false", "true: start again at the end"),
    ("player", "auto", "rosbag2, re2pix (plays the images only), or auto: rosbag2 if it is installed"),
    ("qos_overrides", str(QOS_OVERRIDES), "QoS of the topics that rosbag2 plays"),
    # Of forecast.launch.py, with other defaults.
    ("image", LaunchConfiguration("topic"), "The same as topic: where a replay takes the images from"),
    ("image_transport", "", "Type of the images: raw or compressed; empty: by the end of the topic's name"),
    ("use_sim_time", "true", "true: time comes from the recording"),
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, description=what) for name, what in REQUIRED.items()),
            *(DeclareLaunchArgument(name, default_value=value, description=what) for name, value, what in OPTIONAL),
            RegisterEventHandler(OnProcessExit(on_exit=_end)),
            OpaqueFunction(function=_aim),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "forecast.launch.py"))),
            OpaqueFunction(function=_play_when_active),
        ]
    )


def _aim(context: LaunchContext) -> list[Action]:
    """Make the node take its images from the recorded topic."""
    value = context.launch_configurations
    if value["image"] != value["topic"]:
        raise RuntimeError(f"image:={value['image']} is not possible in a replay: topic:= says where the images are")
    compressed = not value["image_transport"] and value["topic"].endswith("/compressed")
    return [SetLaunchConfiguration("image_transport", "compressed")] if compressed else []


def _play_when_active(context: LaunchContext) -> list[Action]:
    """Start the player when the node has subscribed, which it does when activated. Until then look again later.

    Asking the graph cannot miss that moment; the event of the transition can be over before launch is connected.
    """
    value = context.launch_configurations
    listening = {info.node_name for info in get_ros_node(context).get_subscriptions_info_by_topic(value["topic"])}
    if value["name"] in listening:
        return [ExecuteProcess(cmd=_command(value), output="screen")]
    return [TimerAction(period=LOOK_AGAIN, actions=[OpaqueFunction(function=_play_when_active)])]


def _command(value: dict[str, str]) -> list[object]:
    play = _rosbag2 if _with_rosbag2(value["player"]) else _re2pix
    loop = value["loop"].lower()
    if loop not in ("true", "false"):
        raise RuntimeError(f"loop:={value['loop']} is neither true nor false")
    return [*play(value), "--clock", "--rate", value["rate"], *(["--loop"] if loop == "true" else [])]


def _with_rosbag2(player: str) -> bool:
    if player not in ("auto", "rosbag2", "re2pix"):
        raise RuntimeError(f"player:={player} is not one of auto, rosbag2, re2pix")
    return player == "rosbag2" or (player == "auto" and "ros2bag" in get_packages_with_prefixes())


def _rosbag2(value: dict[str, str]) -> list[object]:
    return [
        *("ros2", "bag", "play", value["bag"]),
        *("--topics", value["topic"], _camera_info(value)),
        *("--qos-profile-overrides-path", value["qos_overrides"]),
        # Publishers and subscribers need a moment to find each other; and launch has no keyboard.
        *("--delay", "1.0", "--disable-keyboard-controls"),
    ]


def _re2pix(value: dict[str, str]) -> list[object]:
    re2pix = ExecutableInPackage(package="re2pix_node", executable="re2pix")
    return [re2pix, "play", value["bag"], "--topic", value["topic"], "--wait"]


def _camera_info(value: dict[str, str]) -> str:
    """As in forecast.launch.py."""
    beside = [*value["topic"].removesuffix("/compressed").split("/")[:-1], "camera_info"]
    return value["camera_info"] or "/".join(beside)


def _end(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """End the launch when the bag or the node has ended: each is useless without the other."""
    if context.is_shutdown:
        return []
    return [TimerAction(period=LAST_FORECAST, actions=[Shutdown(reason=f"{event.process_name} has ended")])]
