"""Files that ship are found wherever the package was put."""

import sys
from pathlib import Path

import pytest

from re2pix_node.common.shipped import shipped

ROOT = Path(__file__).resolve().parents[2]
SHARE = "share/re2pix_node"


@pytest.fixture
def prefixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A sourced workspace, and the prefix of pip."""
    for name in ("sourced", "pip"):
        (tmp_path / name / SHARE).mkdir(parents=True)
        (tmp_path / name / SHARE / "of_both").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path / 'sourced'}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "pip"))
    return tmp_path / "sourced", tmp_path / "pip"


def test_the_checkout_comes_first(prefixes: tuple[Path, Path]) -> None:
    (prefixes[0] / SHARE / "package.xml").touch()
    assert shipped("package.xml") == ROOT / "package.xml"


def test_then_a_sourced_workspace_then_what_pip_installed(prefixes: tuple[Path, Path]) -> None:
    sourced, pip = prefixes
    assert shipped("of_both") == sourced / SHARE / "of_both"
    (pip / SHARE / "models/small").mkdir(parents=True)
    assert shipped("models/small") == pip / SHARE / "models/small"


def test_what_does_not_ship_is_not_found(prefixes: tuple[Path, Path]) -> None:
    assert shipped("models/of-none") is None
