"""The drive that ships with the project: for the demo, and for tests that need a realistic street."""

from pathlib import Path

import numpy as np
import pytest

from re2pix_node.cli import main
from re2pix_node.footage.clips import open_clips
from re2pix_node.imaging.decode import decode
from re2pix_node.recordings.reader import open_recording

DRIVE = Path(__file__).resolve().parents[2] / "data" / "drive_90002"
CAMERA = "/camera/image/compressed"


def test_it_is_twenty_seconds_in_less_than_6_mb() -> None:
    assert sum(file.stat().st_size for file in DRIVE.iterdir()) < 6_000_000
    with open_recording(DRIVE) as recording:
        stamps = [frame.stamp for frame in recording.frames(recording.camera(CAMERA))]
        assert recording.problem is None
    assert len(stamps) == 340
    np.testing.assert_allclose(np.diff(stamps), 1e9 / 17, rtol=1e-6)


def test_every_frame_has_its_labels() -> None:
    (clip,) = open_clips(DRIVE)
    assert list(clip.labelled) == list(range(340))
    assert clip.frame(0).shape == (224, 448, 3)
    assert {0, 1, 2, 5, 8, 10, 11, 13} <= set(np.unique(np.stack([clip.labels(i) for i in range(0, 340, 10)])))


def test_it_moves() -> None:
    with open_recording(DRIVE) as recording:
        frames = [decode(frame.message) for frame in recording.frames(recording.camera(CAMERA))][::34]
    steps = [np.abs(a.astype(int) - b).mean() for a, b in zip(frames[1:], frames[:-1], strict=True)]
    assert min(steps) > 1
    assert max(steps) > 10


def test_replay_and_evaluate_take_it(tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = ["--bundle", str(tiny.path)]
    assert main(["replay", str(DRIVE), "-o", str(tmp_path / "out"), *bundle, "--topic", CAMERA]) == 0
    # 17 Hz: the shortest allowed spacing, 3 frames, gives the first context at the 10th.
    assert "340 frames, 331 forecasts" in capsys.readouterr().out
    assert main(["evaluate", "--data", str(DRIVE), *bundle, "--every", "10", "--baselines", "warp"]) == 0
    said = capsys.readouterr().out
    assert "1 clips" in said or "1 clip" in said
    assert "oracle" in said
