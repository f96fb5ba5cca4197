"""The bench of the node: that its figures are what they are called. How large they are is for a quiet machine."""

import json
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.cli import main
from re2pix_node.harness.node_bench import MODEL_STAGES
from tests.support.ros_node import start
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest


def test_both_measurements_are_made(tiny: Bundle, drive_bag: Path, tmp_path: Path) -> None:
    words = ["--bundle", tiny.path, "--drive", drive_bag, "--seconds", 3, "--frames", 90, "--json", tmp_path / "b.json"]
    bench = start("-m", "re2pix_node.cli", "bench-node", *words)
    said, error = bench.communicate(timeout=240)
    assert bench.returncode == 0, error
    figures = json.loads((tmp_path / "b.json").read_text())
    keeping_up, added = figures["keeping_up"], figures["ros"]
    assert (keeping_up["sent"], added["sent"]) == (30, 90)
    for row in (keeping_up, added):
        assert row["bundle"] == "tiny"
        assert row["lost"] == row["sent"] - row["received"]
        assert 0 < row["forecasts"] <= row["received"] - row["overtaken"] - row["without_context"]
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        # What a frame takes outside of the node comes on top.
        assert row["sent_to_received_p50_ms"] > 0.9 * row["p50_ms"]
        assert 0 < row["cores"] < 16
        assert f"{row['p50_ms']:.1f} ({row['p99_ms']:.1f})" in said
    assert keeping_up["met"] == (
        keeping_up["lost"] + keeping_up["overtaken"] == 0 and keeping_up["p99_ms"] <= keeping_up["target"]["p99_ms"]
    )
    assert added["added_ms"] == pytest.approx(added["p50_ms"] - sum(added["stages_ms"][s] for s in MODEL_STAGES))
    assert added["met"] == (added["lost"] == 0 and added["added_ms"] <= added["target"]["added_ms"])
    assert 0 < added["alone_p50_ms"] <= added["alone_p99_ms"]
    assert ("PASS" in said) == (keeping_up["met"] or added["met"])


def test_rendering_is_off_and_on_in_turns(drive_bag: Path, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "drawing", tiny_manifest(render=True))
    words = [
        "--bundle",
        bundle.path,
        "--drive",
        drive_bag,
        "--seconds",
        20,
        "--render",
        5,
        "--json",
        tmp_path / "b.json",
    ]
    bench = start("-m", "re2pix_node.cli", "bench-node", *words)
    said, error = bench.communicate(timeout=240)
    assert bench.returncode == 0, error
    row = json.loads((tmp_path / "b.json").read_text())["rendering"]
    off, on, pictures = row["off"], row["on"], row["pictures"]
    for column in (off, on):
        # 10 Hz for two turns of 5 s, less their first seconds; longer where the machine is slow.
        seconds = column["forecasts"] / column["rate_hz"]
        assert seconds >= 7.9
        assert 0 < column["frames"] <= 10 * seconds + 2
        assert column["forecasts"] + column["overtaken_or_lost"] == column["frames"]
        assert 0 < column["p50_ms"] <= column["p99_ms"]
        assert 0 < column["rate_hz"] < 12
    assert row["ratio"]["p99_ms"] == pytest.approx(on["p99_ms"] / off["p99_ms"])
    assert row["renderer"].startswith(("openvino", "onnxruntime"))
    # In its turns only, five forecasts a second: three horizons each.
    seconds = on["forecasts"] / on["rate_hz"] + 2
    assert 0 < pictures["pictures drawn"] + pictures["pictures late"] <= 3 * 5 * seconds + 9
    assert pictures["picture errors"] == 0
    assert row["met"] == (on["rate_hz"] >= 0.9 * off["rate_hz"] and on["p99_ms"] <= 1.1 * off["p99_ms"])
    assert ("PASS" in said) == row["met"]


def test_a_bundle_that_cannot_draw_has_nothing_to_measure(
    tiny: Bundle, drive_bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--bundle", str(tiny.path), "--drive", str(drive_bag), "--render", "5"]
    assert main(["bench-node", *words]) == 2
    assert "has no render graph" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--render", "0"], "--render must lie above 0 and up to 60 Hz, is 0"),
        (["--seconds", "0"], "--seconds must be above 0 and --frames at least 3"),
        (["--frames", "2"], "--seconds must be above 0 and --frames at least 3"),
        (["--json", "/nowhere/b.json"], "the folder /nowhere does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    drive_bag: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench-node", "--drive", str(drive_bag), *words]) == 2
    assert expected in capsys.readouterr().err
