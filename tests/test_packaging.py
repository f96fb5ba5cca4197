"""What a release is made of: versions, changelogs and dependencies agree wherever they are written."""

import re
import subprocess
import sys
from importlib.metadata import Distribution, requires
from pathlib import Path

import pytest
from catkin_pkg.changelog import get_changelog_from_path
from catkin_pkg.package import Package, parse_package
from packaging.requirements import Requirement

from re2pix_node import __version__

ROOT = Path(__file__).resolve().parents[1]
# What rosdep calls the packages of requirements/runtime.txt: Debian's packages, and those that it takes from pip.
FROM_APT = {"opencv-python-headless": "python3-opencv", "pyyaml": "python3-yaml", "tqdm": "python3-tqdm"}
FROM_PIP = {
    "mcap": "mcap-ros2-support",  # which brings it
    "onnxruntime": "python3-onnxruntime-pip",
    "rosbags": "python3-rosbags-pip",
}
PACKAGES = {"re2pix_node": ROOT, "re2pix_msgs": ROOT / "ros2_ws/src/re2pix_msgs"}


def package(name: str) -> Package:
    return parse_package(PACKAGES[name] / "package.xml")


@pytest.mark.filterwarnings("ignore:nodes.Node.traverse:DeprecationWarning")  # in catkin_pkg
@pytest.mark.parametrize("name", PACKAGES)
def test_the_manifest_and_the_changelog_name_this_version(name: str) -> None:
    *_, (newest, _, _) = get_changelog_from_path(PACKAGES[name] / "CHANGELOG.rst").foreach_version()  # sorted
    assert (package(name).version, newest) == (__version__, __version__)


def test_setup_py_names_this_version() -> None:
    assert re.findall(r'version="(.*)"', (ROOT / "setup.py").read_text()) == [__version__]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_carries_its_licence(name: str) -> None:
    assert package(name).licenses == ["Apache-2.0"]
    assert (PACKAGES[name] / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_tests_depend_on_what_they_are_run_with() -> None:
    declared = {depend.name.removeprefix("python3-") for depend in package("re2pix_node").test_depends}
    assert {"hypothesis", "pytest", "pytest-timeout"} <= declared


def test_rosdep_brings_what_the_node_and_the_commands_need() -> None:
    keys = {depend.name for depend in package("re2pix_node").exec_depends}
    brought = {name for name, key in {**FROM_APT, **FROM_PIP}.items() if key in keys}
    brought |= {Requirement(line).name for name in brought & set(FROM_PIP) for line in requires(name) or []}
    assert listed("runtime") - brought == {"openvino"}  # which is faster, but has no key; the node runs without it


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """What pip would know of the package, and the source archive would hold; made outside of the checkout."""
    folder = tmp_path_factory.mktemp("egg")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return Distribution.at(folder / "re2pix_node.egg-info")


def listed(*names: str) -> set[str]:
    lines = [line for name in names for line in (ROOT / f"requirements/{name}.txt").read_text().splitlines()]
    return {str(Requirement(line).name) for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize("extra", ["train", "export", "evaluate", "simulate", "ray"])
def test_an_extra_brings_what_its_list_names_and_what_everything_needs(distribution: Distribution, extra: str) -> None:
    requirements = map(Requirement, distribution.requires or [])
    brought = {need.name for need in requirements if need.marker and need.marker.evaluate({"extra": extra})}
    assert brought == listed("runtime", extra)


def test_the_source_archive_has_all_that_is_built_and_installed_from(distribution: Distribution) -> None:
    archived = set((distribution.read_text("SOURCES.txt") or "").splitlines())
    needed = [
        *("package.xml", "setup.cfg", "LICENSE", "CHANGELOG.rst", "README.md", "resource/re2pix_node"),
        *("re2pix_node/py.typed", "config/fastdds.xml", "launch/forecast.launch.py", "models/re2pix-nano/bundle.yaml"),
        *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("requirements/*.txt")),
        *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("ros2_ws/src/re2pix_msgs/msg/*.msg")),
    ]
    assert set(needed) <= archived
