"""The files in config/ and launch/: they are valid, name existing topics, and are installed."""

import ast
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from re2pix_msgs.msg import Forecast

from re2pix_node.bundle.locate import DEFAULT_BUNDLE, bundle_folder
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.pipeline.outputs import output_names
from re2pix_node.ros import qos
from re2pix_node.ros.parameters import parameters

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
POLICIES = {"reliability": ReliabilityPolicy, "durability": DurabilityPolicy, "history": HistoryPolicy}


def qos_overrides() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((CONFIG / "qos_overrides.yaml").read_text())


def known_topics() -> set[str]:
    """Cameras as people call them, and what the node with the shipped bundle publishes."""
    outputs = [*output_names(read_bundle(bundle_folder(DEFAULT_BUNDLE))), "forecast", "preview/compressed"]
    return {*qos_overrides(), *(f"/re2pix_node/output/{name}" for name in outputs), "/diagnostics"}


def test_the_parameter_file_holds_every_parameter_at_its_default() -> None:
    text = (CONFIG / "re2pix_node.yaml").read_text()
    given = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert list(given) == [parameter.name for parameter in parameters()]
    for parameter in parameters():
        default = list(parameter.default) if parameter.kind.entries else parameter.default
        assert (given[parameter.name], type(given[parameter.name])) == (default, type(default))
    lines = text.partition("ros__parameters:\n")[2].splitlines()
    assert all("  # " in line for line in lines), "every parameter is explained"


def test_what_a_bag_offers_reaches_the_node_and_rviz() -> None:
    for policies in qos_overrides().values():
        named = {key: POLICIES[key].get_from_short_key(value) for key, value in policies.items() if key != "depth"}
        offered = QoSProfile(depth=policies["depth"], **named)
        for wanted in (qos.CAMERA, QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)):
            assert qos_check_compatible(offered, wanted)[0] != QoSCompatibility.ERROR
        # Neither held back by a slow subscriber, nor kept for late ones.
        assert (offered.history, offered.durability) == (HistoryPolicy.KEEP_LAST, DurabilityPolicy.VOLATILE)


def test_rviz_shows_topics_that_there_are() -> None:
    displays = yaml.safe_load((CONFIG / "re2pix.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = [display["Topic"]["Value"] for display in displays]
    assert {display["Class"] for display in displays} == {"rviz_default_plugins/Image"}
    assert set(topics) <= known_topics()
    assert {"/camera/image/compressed", "/re2pix_node/output/preview/compressed"} < set(topics)
    # Never a reason for a publisher to wait; and the only thing a best-effort camera offers.
    assert all(display["Topic"]["Reliability Policy"] == "Best Effort" for display in displays)
    assert len({display["Name"] for display in displays}) == len(displays)


def panels(node: Any) -> Iterator[str]:
    """The panels in a Foxglove layout: a tree of splits."""
    if isinstance(node, str):
        yield node
    else:
        assert node["direction"] in ("row", "column")
        yield from panels(node["first"])
        yield from panels(node["second"])


def test_the_foxglove_layout_places_every_panel_that_is_configured() -> None:
    layout = json.loads((CONFIG / "foxglove.json").read_text())
    placed = list(panels(layout["layout"]))
    assert sorted(placed) == sorted(layout["configById"])
    assert {panel.partition("!")[0] for panel in placed} == {
        "Image",
        "Plot",
        "DiagnosticSummary",
        "DiagnosticStatusPanel",
    }


def test_the_foxglove_layout_shows_topics_and_fields_that_there_are() -> None:
    panels = json.loads((CONFIG / "foxglove.json").read_text())["configById"]
    images = {panel["imageMode"]["imageTopic"] for panel in panels.values() if "imageMode" in panel}
    assert images <= known_topics()
    assert {"/camera/image/compressed", "/re2pix_node/output/preview/compressed"} < images
    assert panels["DiagnosticStatusPanel!node"]["selectedName"] == "re2pix_node: forecast"
    lines = [path["value"] for path in panels["Plot!skill"]["paths"] if path["enabled"]]
    assert lines.pop() == "0"  # a line across, to compare with
    horizons = len(read_bundle(bundle_folder(DEFAULT_BUNDLE)).manifest.time.horizons)
    assert lines == [f"/re2pix_node/output/forecast.skill[{k}]" for k in range(1, horizons + 1)]
    assert "skill" in Forecast.get_fields_and_field_types()


def test_every_launch_and_config_file_is_installed(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "--quiet", "install_data", "--install-dir", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    share = tmp_path / "share" / "re2pix_node"
    for folder in ("launch", "config"):
        ours = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.*") if "__pycache__" not in path.parts}
        assert ours
        assert ours == {path.relative_to(share) for path in (share / folder).rglob("*.*")}


@pytest.mark.parametrize("path", sorted((ROOT / "launch").glob("*.py")), ids=lambda path: path.name)
def test_package_xml_names_what_a_launch_file_imports(path: Path) -> None:
    depends = {element.text for element in ElementTree.parse(ROOT / "package.xml").iter("exec_depend")}
    modules = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
    roots = {str(module).partition(".")[0] for module in modules} - set(sys.stdlib_module_names)
    assert roots
    assert roots | {"ros2launch"} <= depends
