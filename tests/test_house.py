"""The rules of the house: what may import what, and what a machine without PyTorch or ROS can do."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "re2pix_node"
# The only folders that may know ROS, and that then run where ROS is; PyTorch is for nets, and for what trains them.
ROS_FOLDERS = {"ros", "harness", "examples", "commands"}
TORCH_FOLDERS = {"nets", "training", "evaluation"}


def is_core(path: Path) -> bool:
    folder = path.relative_to(PACKAGE).parts[0]
    # Messages come of ROS, or of rosbags.
    return folder not in ROS_FOLDERS | TORCH_FOLDERS and path.name not in ("messages.py", "cli.py")


CORE = sorted(path for path in PACKAGE.rglob("*.py") if is_core(path))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_the_core_knows_neither_ros_nor_torch(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"rclpy", "torch", "accelerate", "sensor_msgs", "re2pix_msgs", "std_msgs"}
    above = {f"re2pix_node.{name}" for name in TORCH_FOLDERS}
    assert not any(name.startswith(tuple(above)) for name in imports(path))


def test_replay_runs_without_torch_onnx_and_ros(drive_bag: Path, tiny, tmp_path: Path) -> None:
    # In a Python where importing any of them ends the process.
    for name in ("torch", "onnx", "rclpy", "sensor_msgs", "re2pix_msgs"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(99)")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = ["replay", drive_bag, "-o", tmp_path / "out", "--bundle", tiny.path]
    done = subprocess.run(
        [sys.executable, "-m", "re2pix_node.cli", *map(str, command)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "78 forecasts" in done.stdout
