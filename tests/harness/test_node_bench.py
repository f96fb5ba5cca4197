"""The bench of the node: its figures mean what their names say. Their size needs a quiet machine."""

import json
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.cli import main
from re2pix_node.harness.node_bench import keeps_up, what_ros_adds
from re2pix_node.harness.render_bench import go_unnoticed
from tests.support.ros_node import start


@pytest.mark.long
@pytest.mark.alone
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
        others = sum(row[what] for what in ("overtaken", "skipped", "not_forecast_from", "without_context"))
        assert 0 < row["forecasts"] <= row["received"] - others
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        # The time of a frame outside the node comes in addition.
        assert row["sent_to_received_p50_ms"] > 0.9 * row["p50_ms"]
        assert 0 < row["cores"] < 16
        assert f"{row['p50_ms']:.1f} ({row['p99_ms']:.1f})" in said
        # What the node says of its stages is what it says of the whole.
        assert sum(row["stages_ms"].values()) == pytest.approx(row["p50_ms"], rel=0.3)
    assert 0 < added["added_ms"] < added["p50_ms"]
    assert 0 < added["alone_p50_ms"] <= added["alone_p99_ms"]
    assert said.count("PASS") == keeping_up["met"] + added["met"]


FINE = {"lost": 0, "overtaken": 0, "skipped": 0, "not_forecast_from": 0, "undecodable": 0, "p99_ms": 120.0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"p99_ms": 120.1}, False),
        ({"lost": 1}, False),
        ({"overtaken": 1}, False),
        ({"skipped": 1}, False),
        ({"not_forecast_from": 1}, False),
        ({"undecodable": 1}, False),
    ],
)
def test_a_node_keeps_up_that_drops_nothing_and_is_in_time(change: dict, expected: bool) -> None:
    assert keeps_up({**FINE, **change}) is expected


@pytest.mark.parametrize(
    ("p50", "lost", "added", "met"), [(15.0, 0, 5.0, True), (15.1, 0, 5.1, False), (12, 1, 2, False)]
)
def test_what_ros_adds_is_all_but_the_work_of_the_model(p50: float, lost: int, added: float, met: bool) -> None:
    stages = {"wait": 7.0, "decode": 1.0, "fit": 2.0, "encode": 3.0, "forecast": 4.0, "publish": 8.0}
    figures = what_ros_adds({"p50_ms": p50, "lost": lost, "stages_ms": stages})
    assert figures["model_ms"] == 10.0
    assert figures["added_ms"] == pytest.approx(added)
    assert figures["met"] is met


@pytest.mark.parametrize(
    ("rate", "p99", "errors", "expected"),
    [
        (10.0, 50.0, 0, True),
        (9.0, 55.0, 0, True),
        (8.9, 50.0, 0, False),
        (10.0, 55.1, 0, False),
        (10.0, 50.0, 1, False),
    ],
)
def test_pictures_may_cost_forecasts_a_tenth(rate: float, p99: float, errors: int, expected: bool) -> None:
    off, on = {"rate_hz": 10.0, "p99_ms": 50.0}, {"rate_hz": rate, "p99_ms": p99}
    assert go_unnoticed(off, on, errors) is expected


@pytest.mark.long
@pytest.mark.alone  # draws at idle priority
def test_rendering_is_off_and_on_in_turns(drawing: Bundle, drive_bag: Path, tmp_path: Path) -> None:
    words = [
        "--bundle",
        drawing.path,
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
