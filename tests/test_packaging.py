"""What a release is made of: versions, changelogs and dependencies agree wherever they are written."""

import re
from pathlib import Path

import pytest
from catkin_pkg.changelog import get_changelog_from_path
from catkin_pkg.package import Package, parse_package

from re2pix_node import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"re2pix_node": ROOT, "re2pix_msgs": ROOT / "ros2_ws/src/re2pix_msgs"}


def package(name: str) -> Package:
    return parse_package(PACKAGES[name] / "package.xml")


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
