"""The commands, as a user types them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from re2pix_node import __version__
from re2pix_node.bundle.reader import Bundle
from re2pix_node.cli import COMMANDS, main
from tests.support.ros_node import ROOT, environment, start

DRIVE = ROOT / "data/drive_90002"


def test_the_installed_scripts_run_the_first_python_on_the_path() -> None:
    for name in ("re2pix", "re2pix_node"):
        script = shutil.which(name)
        if script is None:
            pytest.skip("ros2_ws is not on PATH: source scripts/env.sh")
        assert Path(script).read_text().splitlines()[0] == "#!/usr/bin/env python3"
    done = subprocess.run(["re2pix", "--version"], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, __version__)


def test_doctor_runs_where_numpy_and_opencv_are_missing(tmp_path: Path) -> None:
    for name in ("numpy", "cv2"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')")
    paths = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    command = [sys.executable, "-m", "re2pix_node.cli", "doctor"]
    done = subprocess.run(command, env={**environment(), "PYTHONPATH": paths}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "")
    verdict, _, missing = done.stdout.splitlines()[-1].rstrip(".").partition(": ")
    assert verdict == "The node cannot start"
    assert {"numpy", "cv2"} <= set(missing.split(", "))


def test_a_command_whose_needs_are_missing_says_so(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ModuleNotFoundError('No module named cv2', name='cv2')")
    paths = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    command = [sys.executable, "-m", "re2pix_node.cli", "check", "bundle"]
    done = subprocess.run(command, env={**environment(), "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "re2pix check: needs cv2, which is not installed: run re2pix doctor\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    said = capsys.readouterr().out
    assert COMMANDS[command][1][1:20] in said
    assert "--help" in said


def test_check_describes_a_bundle_and_proves_every_engine(tiny: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tiny.path)]) == 0
    said = capsys.readouterr().out
    assert "tiny 1 (Apache-2.0)" in said
    assert "horizons  0.18 s, 0.36 s, 0.54 s" in said
    assert "openvino fp32: proved" in said
    assert "onnxruntime fp32: proved" in said


def test_check_names_what_is_wrong(tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(tiny.path, tmp_path / "copy"))
    (copy / "encode.onnx").unlink()
    assert main(["check", str(copy)]) == 2
    said = capsys.readouterr()
    assert said.err.strip() == f"re2pix check: {copy}: encode.onnx is missing: copy the bundle again, whole"
    assert said.out == ""


def test_a_replay_that_is_interrupted_leaves_nothing(tiny: Bundle, tmp_path: Path) -> None:
    # 20 s of a drive, of which a video is made in some seconds.
    command = ["replay", DRIVE, "-o", tmp_path / "out", "--bundle", tiny.path, "--topic", "/camera/image/compressed"]
    process = start("-m", "re2pix_node.cli", *command, "--video", tmp_path / "v.webm")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".partial-*-v.webm")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error.strip()) == (130, "re2pix replay: stopped")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_is_no_error(tiny: Bundle) -> None:
    command = f"{sys.executable} -m re2pix_node.cli check {tiny.path} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
