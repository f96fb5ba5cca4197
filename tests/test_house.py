"""The rules of the house: what may import what, and what a machine without PyTorch or ROS can do."""

import ast
import functools
import graphlib
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "re2pix_node"
# Each folder with those that it may import; what those may import, it may too. All may import `errors` and `common`.
# In the order of a frame's way; docs/architecture.md shows it.
HOUSE = {
    "imaging": [],
    "bundle": ["imaging"],
    "engines": ["bundle"],
    "render": ["engines"],
    "pipeline": ["render"],
    "recordings": ["pipeline"],
    "footage": ["recordings"],
    "ros": ["pipeline"],
    "harness": ["ros", "recordings"],
    "examples": ["pipeline"],
    "simulator": ["footage"],
    "bench": ["pipeline"],
    "nets": ["bundle"],
    "training": ["nets", "footage"],
    "evaluation": ["training"],
    "commands": ["harness", "simulator", "bench", "evaluation"],
}
BELOW_ALL = {"common", "errors", "__init__"}
ROS = {"ros", "harness", "examples"}
TORCH = {"nets", "training", "evaluation"}
ROOT_FILES = {"__init__.py", "cli.py", "errors.py", "py.typed"}
LONGEST = 400  # lines of a file

FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_root_has_folders_and_the_front_door() -> None:
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    folders = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    assert files == ROOT_FILES
    assert folders == {*HOUSE, "common"}


def test_folders_import_only_what_lies_before_them() -> None:
    allowed = {folder: reach(folder) for folder in HOUSE} | dict.fromkeys(BELOW_ALL, BELOW_ALL)
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in FILES
        for name in imports(path)
        if folder_of(path) != "cli"
        and (of := package_folder(name))
        and of not in {folder_of(path), *allowed[folder_of(path)]}
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_but_the_command_line_imports_commands() -> None:
    others = [path for path in FILES if folder_of(path) not in ("cli", "commands")]
    assert not [path for path in others if "commands" in map(package_folder, imports(path))]


def test_no_folders_import_each_other() -> None:
    graph = defaultdict(set)
    for path in FILES:
        graph[folder_of(path)] |= {of for name in imports(path) if (of := package_folder(name))} - {folder_of(path)}
    for folder in graphlib.TopologicalSorter(graph).static_order():  # CycleError names the folders
        print(f"{folder:<12} <- {' '.join(sorted(graph[folder] - BELOW_ALL)) or '-'}")


def test_no_modules_import_each_other() -> None:
    names = {module_name(path): path for path in FILES}
    graph = {name: {to for to in imports(path) if to in names and to != name} for name, path in names.items()}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules


@pytest.mark.parametrize(
    ("names", "folders"),
    [({"rclpy", "cv_bridge", "ament_index_python"}, ROS), ({"torch", "torchvision", "accelerate", "diffusers"}, TORCH)],
    ids=["ros", "torch"],
)
def test_few_folders_know_ros_or_torch(names: set[str], folders: set[str]) -> None:
    def known(name: str) -> bool:
        root = name.partition(".")[0]
        return root in names or (folders is ROS and root.endswith(("_msgs", "_interfaces")))

    wrong = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if folder_of(path) not in folders and any(map(known, imports(path)))
    }
    # cv_bridge is used where it is installed, and not missed where it is not.
    assert wrong <= {"imaging/decode.py"}


def test_one_file_imports_openvino() -> None:
    # In its own way: OpenVINO sends usage reports when it is imported otherwise.
    known = {str(path.relative_to(PACKAGE)) for path in FILES if "openvino" in imports(path)}
    assert known <= {"common/quiet_openvino.py", "engines/openvino.py"}
    assert "if TYPE_CHECKING:\n    import openvino" in (PACKAGE / "engines/openvino.py").read_text()


def test_no_file_is_long() -> None:
    assert not [path for path in FILES if len(path.read_text().splitlines()) > LONGEST]


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(set)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(path.relative_to(PACKAGE).as_posix())
    assert not {name: found for name, found in places.items() if len(found) > 1}


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


def reach(folder: str) -> set[str]:
    """All that a folder may import."""
    return BELOW_ALL.union(HOUSE[folder], *(reach(below) for below in HOUSE[folder]))


def folder_of(path: Path) -> str:
    """Of a file: its folder, or its own name where it lies in the root."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def package_folder(name: str) -> str:
    """Of a module of ours its folder; of others nothing."""
    root, _, inside = name.partition(".")
    return (inside.partition(".")[0] or "__init__") if root == PACKAGE.name else ""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def imports(path: Path) -> set[str]:
    """The modules that a file names in its imports; of ours also those that it imports from their folder."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            inside = ROOT.joinpath(*module.split("."))
            submodules = {f"{module}.{alias.name}" for alias in node.names if is_module(inside / alias.name)}
            found |= submodules or {module}
    return found


def is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()
