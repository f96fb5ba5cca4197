from pathlib import Path

import pytest

from re2pix_node.bench import machine


def test_a_jetson_is_told_with_its_power_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release").write_text("# R36 (release), REVISION: 4.0, GCID: 1\n# KERNEL_VARIANT: oot\n")
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    monkeypatch.setattr(machine, "JETPACK", tmp_path / "release")
    monkeypatch.setattr(machine, "BOARD", tmp_path / "model")
    tool = tmp_path / "nvpmodel"
    tool.write_text('#!/bin/sh\n[ "$1" = -q ] && echo "NV Power Mode: MAXN" && echo 0\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    told = machine.describe_machine()
    assert told["jetpack"] == "R36 (release), REVISION: 4.0, GCID: 1"
    assert told["board"] == "NVIDIA Jetson AGX Orin Developer Kit"
    assert told["power_mode"] == "NV Power Mode: MAXN, 0"


def test_what_is_not_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "JETPACK", tmp_path / "none")
    monkeypatch.setattr(machine, "BOARD", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    told = machine.describe_machine()
    assert (told["jetpack"], told["board"], told["power_mode"]) == (None, None, None)
    assert told["cpu"]
    assert 0.1 < told["memory_gib"] < 100_000
