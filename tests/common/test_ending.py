"""Programs of ours end with one line, and leave nothing half-written."""

import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from re2pix_node.bundle.reader import Bundle
from re2pix_node.cli import main
from re2pix_node.commands import doctor
from re2pix_node.common import subprocess_python
from re2pix_node.common.ending import DEBUG
from re2pix_node.engines import session
from tests.support.ros_node import ROOT, start

DRIVE = ROOT / "data/drive_90002"
CAMERA = "/camera/image/compressed"


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (TypeError("no\nnumber \x1b[31m"), "an error that nobody foresaw, TypeError: no number \\x1b[31m: set RE2", 70),
        (PermissionError(13, "Permission denied", "/x\x1b/y"), "/x\\x1b/y: Permission denied: check the path", 2),
        (OSError(24, "Too many open files"), "the system refuses: OSError: [Errno 24] Too many open files", 2),
        (MemoryError(), "not enough memory", 2),
        (UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"), "text that is not valid UTF-8", 2),
        (ValueError("embedded null byte"), "a name with a NUL byte", 2),
    ],
)
def test_what_nobody_foresaw_is_one_line(
    error: Exception, said: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raises(_: object) -> int:
        raise error

    monkeypatch.setattr(doctor, "run", raises)
    monkeypatch.setenv(DEBUG, "")
    assert main(["doctor"]) == code
    line = capsys.readouterr().err
    assert line.startswith(f"re2pix doctor: {said}")
    assert line.count("\n") == 1
    assert main(["--debug", "doctor"]) == code
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.endswith(line)


def test_a_message_shows_no_terminal_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{tmp_path}/\x1b[2Ka\nre2pix check: proved\u202e"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "\\x1b[2Ka\\nre2pix check: proved\\u202e" in line


def test_a_bundle_cannot_forge_lines(tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(tiny.path, tmp_path / "copy"))
    manifest = yaml.safe_load((copy / "bundle.yaml").read_text())
    manifest["description"] = "fine\n  tensorrt fp16: proved\x1b[2K\u202e"
    (copy / "bundle.yaml").write_text(yaml.safe_dump(manifest))
    assert main(["check", str(copy), "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert ": fine\\n  tensorrt fp16: proved\\x1b[2K\\u202e\n" in said
    assert "\n  tensorrt fp16: proved" not in said


def test_output_shows_no_terminal_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "run", lambda _: print("a\tb\n\x1b[31mc \udc80 \u00fc") or 0)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "a\tb\n\\x1b[31mc \\udc80 \u00fc\n"


@pytest.mark.parametrize(
    "words",
    [
        ["bench", "--json", "PLACE"],
        ["bench-node", "--drive", DRIVE, "--json", "PLACE"],
        ["evaluate", "--data", DRIVE, "--report", "PLACE"],
        ["export", ".", "-o", "PLACE"],
        ["demo", "--drive", DRIVE, "--topic", "/camera/image/compressed", "--out", "PLACE"],
        ["replay", DRIVE, "-o", "PLACE", "--topic", "/camera/image/compressed"],
        ["simulate", "--seeds", "0", "1", "-o", "PLACE"],
    ],
    ids=lambda words: words[0],
)
def test_a_place_that_cannot_be_written_is_one_line_at_once(
    words: list[object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session.EngineSession, "start", lambda _: pytest.fail("an engine was loaded first"))
    for place in ("/proc/x", f"/tmp/{'x' * 300}", "/tmp/a\0b"):
        assert main([place if word == "PLACE" else str(word) for word in words]) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"re2pix {words[0]}: ")
        assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frames", "-1"], "--frames must be 0, for all of them, or more, is -1"),
        (["--size", "99999x99999"], "the size 99999x99999 is too large: the limit is 50000000 pixels"),
        (["--size", f"{'9' * 5000}x1"], "is not understood"),
    ],
)
def test_play_refuses_what_cannot_be_played(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", str(DRIVE), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("module", ["re2pix_node.cli", "re2pix_node.ros.entry"])
@pytest.mark.parametrize("mebibytes", [400, 600])
def test_too_little_address_space_is_one_line(module: str, mebibytes: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))

    words = ["check", "re2pix-nano"] if module.endswith("cli") else ["--ros-args"]
    done = subprocess.run(
        subprocess_python.command(module, *words),
        env=subprocess_python.environment(),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"the address space of this process is limited to {mebibytes} MiB" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["replay", DRIVE, "-o", "OUT/made", "--bundle", "BUNDLE", "--topic", CAMERA, "--engine", "onnxruntime"],
        ["simulate", "--seeds", "0", "1", "-o", "OUT"],
    ],
    ids=["replay", "simulate"],
)
def test_a_command_that_is_stopped_leaves_nothing_half_written(
    command: list[object], tiny: Bundle, tmp_path: Path
) -> None:
    words = [str(word).replace("OUT", str(tmp_path)).replace("BUNDLE", str(tiny.path)) for word in command]
    process = start("-m", "re2pix_node.cli", *words)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".partial-*/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    assert error.splitlines()[-1].endswith(f"re2pix {command[0]}: stopped")
    assert list(tmp_path.iterdir()) == []


def test_nohup_is_respected() -> None:
    code = """
import signal
from re2pix_node.common.ending import stopped_by_signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with stopped_by_signals():
    signal.raise_signal(signal.SIGHUP)
print("here")
try:
    with stopped_by_signals():
        signal.raise_signal(signal.SIGTERM)
except KeyboardInterrupt as stop:
    print(stop.number)
"""
    command, environment = subprocess_python.code(code), subprocess_python.environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["here", "15"], done.stderr
