"""`re2pix simulate`: the drives that it makes and skips, and the options that it refuses."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from re2pix_node.commands.simulate import add_arguments, run
from re2pix_node.errors import Re2pixError
from re2pix_node.simulator.renderer import RenderError
from re2pix_node.simulator.splits import SPLITS, split_of
from tests.simulator.test_recording import payloads

SMALL = ["--seconds", "0.2", "--size", "64x32"]


def simulate(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    try:
        return run(parser.parse_args([str(argument) for argument in arguments]))
    except RenderError as error:
        pytest.skip(str(error))


def test_makes_what_is_missing_and_sweeps_up_what_a_killed_run_left(tmp_path: Path, capsys) -> None:
    assert simulate("-o", tmp_path / "a", "--seeds", 5, 1, *SMALL) == 0
    before = (tmp_path / "a/drive_00005/metadata.yaml").stat().st_mtime_ns
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f"a/.partial-{ended.pid}-drive_00004").mkdir()
    assert simulate("-o", tmp_path / "a", "--seeds", 4, 2, *SMALL) == 0
    said = capsys.readouterr()
    assert "1 drives made, 1 existed already" in said.out
    assert "killed" in said.err
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["drive_00004", "drive_00005"]
    assert (tmp_path / "a/drive_00005/metadata.yaml").stat().st_mtime_ns == before
    first = payloads(tmp_path / "a/drive_00005")
    assert simulate("-o", tmp_path / "a", "--seeds", 5, 1, *SMALL, "--force") == 0
    assert (tmp_path / "a/drive_00005/metadata.yaml").stat().st_mtime_ns > before
    assert payloads(tmp_path / "a/drive_00005") == first  # whatever was made before it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", 0, 1, "--size", "448"], "--size 448: is not a size"),
        (["--seeds", 0, 1, "--size", "8x9"], "--size 8x9: is not a size"),
        (["--seeds", 0, 1, "--rate", 0], "--rate 0"),
        (["--seeds", 0, 1, "--seconds", -3], "--seconds -3"),
        (["--seeds", 0, 1, "--quality", 0], "--quality 0"),
        (["--seeds", 0, 1, "--topics", "camera,lidar"], "there is no 'lidar'"),
        (["--seeds", -1, 1], "--seeds -1 1"),
        (["--seeds", 99_999, 2], "there are no such seeds"),
        (["--split", "dev", 1], "--split dev: there is no such split"),
        (["--split", "val", 0], "choose 1 to 10000 drives"),
    ],
)
def test_refuses_in_one_line(arguments: list[object], message: str, tmp_path: Path) -> None:
    with pytest.raises(Re2pixError, match=message) as caught:
        simulate("-o", tmp_path / "out", *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_touches_nothing_that_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "drive_00001").mkdir()
    (tmp_path / "drive_00001/thesis.txt").write_text("mine")
    with pytest.raises(Re2pixError, match="is not a recording"):
        simulate("-o", tmp_path, "--seeds", 1, 1)
    with pytest.raises(Re2pixError, match="is not a recording"):
        simulate("-o", tmp_path, "--seeds", 1, 1, *SMALL, "--force")
    assert (tmp_path / "drive_00001/thesis.txt").read_text() == "mine"


def test_without_opengl_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from re2pix_node.simulator.recorder import RecordingPlan, record;"
        f"record(Path({str(tmp_path / 'x')!r}), 1, RecordingPlan(seconds=0.1, size=(64, 32)))"
    )
    environment = {**os.environ, "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere.json"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "RenderError: OpenGL: " in done.stderr
    assert "apt-get install" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_seed_is_in_two_splits() -> None:
    seeds = [seed for split in SPLITS.values() for seed in split]
    assert len(seeds) == len(set(seeds))
    assert [split_of(SPLITS[name].start) for name in ("train", "val", "test")] == ["train", "val", "test"]
