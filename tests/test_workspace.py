"""The two packages build in a workspace that is not ours, by the README's lines, and the node starts from there."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from catkin_pkg.packages import find_packages
from re2pix_msgs.msg import Forecast
from sensor_msgs.msg import Image

from re2pix_node.bundle.reader import Bundle
from tests.support.ros_node import ROOT, Listener, image, listener, ros, stop  # noqa: F401

PACKAGES = {"re2pix_node", "re2pix_msgs"}
PATHS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH")


def readme_lines() -> list[str]:
    section = (ROOT / "README.md").read_text().partition("### With a ROS 2 distribution\n")[2]
    return section.split("```\n")[1].splitlines()


def without_ours() -> dict[str, str]:
    """The environment of a shell that has ROS, but not what we built, in this checkout or in another."""
    environment = dict(os.environ)
    for name in PATHS:
        entries = environment.get(name, "").split(os.pathsep)
        environment[name] = os.pathsep.join(entry for entry in entries if not holds_ours(Path(entry)))
    # Beside ROS from PyPI the venv is the ROS installation; beside a distribution, its paths are already set.
    if "ROS_DISTRO" not in environment:
        environment["AMENT_PREFIX_PATH"] = environment["CMAKE_PREFIX_PATH"] = environment["VIRTUAL_ENV"]
    return {name: value for name, value in environment.items() if value}


def holds_ours(folder: Path) -> bool:
    if folder.is_relative_to(ROOT / "ros2_ws") or folder.name in PACKAGES:
        return True
    return any((folder / place / name).exists() for place in (".", "share") for name in PACKAGES)


def run(workspace: Path, script: str) -> str:
    done = subprocess.run(
        ["bash", "-ec", script], cwd=workspace, env=without_ours(), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def found_by_rosdep(folder: Path) -> set[str]:
    # rosdep looks for packages with this function.
    return {package.name for package in find_packages(str(folder)).values()}


def found_by_colcon(workspace: Path) -> set[str]:
    return set(run(workspace, "colcon list --names-only").split())


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    return tmp_path


def test_colcon_and_rosdep_find_both_packages_in_our_workspace() -> None:
    assert found_by_colcon(ROOT / "ros2_ws") == found_by_rosdep(ROOT / "ros2_ws/src") == PACKAGES


def test_the_link_of_the_readme_shows_both_packages_in_another_workspace(workspace: Path) -> None:
    (workspace / "src/re2pix_node").symlink_to(ROOT)
    assert found_by_rosdep(workspace / "src") == {"re2pix_node"}
    (link,) = (line for line in readme_lines() if line.startswith("ln "))
    run(workspace / "src", link)
    assert found_by_colcon(workspace) == found_by_rosdep(workspace / "src") == PACKAGES


def test_without_a_link_both_packages_can_be_named(workspace: Path) -> None:
    (workspace / "src/re2pix_node").symlink_to(ROOT)
    lines = (ROOT / "docs/launch.md").read_text().splitlines()
    (build,) = (line for line in lines if line.startswith("colcon build --base-paths"))
    assert set(run(workspace, build.replace("build", "list --names-only", 1)).split()) == PACKAGES


def test_a_node_without_its_messages_names_the_mend(workspace: Path) -> None:
    environment = without_ours()
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "re2pix_node.ros.entry"]
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, timeout=120)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith(
        "re2pix_node: the module re2pix_msgs is missing: link re2pix_node/ros2_ws/src/re2pix_msgs into"
    )


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to clone: what git would take of this checkout, committed or not."""
    copy = tmp_path_factory.mktemp("origin") / "re2pix_node"
    listed = subprocess.check_output(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():  # not one that was just removed
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    git = "git -c user.name=test -c user.email=test@example.org"
    run(copy, f"git init -q && git add -A && {git} commit -qm all")
    return copy


@pytest.fixture
def built(workspace: Path, repository: Path) -> Path:
    """The README's lines, typed as they stand, up to those that launch; without rosdep, which needs its index."""
    lines = [line.replace("URL", str(repository)) for line in readme_lines()]
    run(workspace, "\n".join(line for line in lines if not line.startswith(("rosdep ", "ros2 launch "))))
    return workspace


@pytest.fixture
def node(built: Path, tiny: Bundle, listener: Listener) -> Iterator["subprocess.Popen[str]"]:  # noqa: F811
    script = ". install/setup.bash; exec install/re2pix_node/lib/re2pix_node/re2pix_node --ros-args"
    process = subprocess.Popen(
        ["bash", "-c", f'{script} -r __ns:={listener.namespace} -p "bundle:={tiny.path}"'],
        cwd=built,
        env=without_ours(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    yield process
    if process.poll() is None:
        stop(process)


@pytest.mark.long
def test_a_clone_built_by_the_readme_forecasts(
    node: "subprocess.Popen[str]",
    built: Path,
    listener: Listener,  # noqa: F811
) -> None:
    publisher = listener.publisher(Image)
    forecasts = listener.listen(Forecast, "forecast")
    listener.wait_active(publisher)
    assert listener.send_until(publisher, lambda: len(forecasts) > 0, image)
    # It is that build that runs, with its own messages, and not this checkout.
    maps = Path(f"/proc/{node.pid}/maps").read_text()
    assert f"{built}/install/re2pix_msgs/lib/" in maps
    assert f"{ROOT}/ros2_ws/" not in maps
    node.send_signal(signal.SIGINT)
    assert node.wait(30) == 0
