"""A short soak of the real node, and the verdict on a leaking one."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.harness.soak import UsageSample, verdict
from tests.support.ros_node import start

SECONDS = int(os.environ.get("SOAK_SECONDS", "48"))
RATE = 25  # so that this is as many frames as two minutes of a camera at 10 Hz
MIB = 1 << 20
WELL = [UsageSample(10.0 * i, 200 * MIB, 150 * MIB, 20, 30, 100 * i, 0) for i in range(1, 361)]


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 180)
def test_the_node_holds_no_more_after_1200_frames(tiny: Bundle, drive_bag: Path, tmp_path: Path) -> None:
    log = tmp_path / "soak.csv"
    words = ["--bundle", tiny.path, "--drive", drive_bag, "--seconds", SECONDS, "--rate", RATE, "--log", log]
    soak = start("-m", "re2pix_node.cli", "soak", *words)
    try:
        said, error = soak.communicate(timeout=SECONDS + 120)
    finally:
        soak.terminate()
    print(said)
    assert soak.returncode == 0, said + error
    assert said.splitlines()[-1] == "soak: passed"
    samples = list(csv.DictReader(log.open()))
    assert len(samples) >= min(12, SECONDS // 10)
    assert float(samples[-1]["seconds"]) >= SECONDS
    # Less the first context; a busy machine may lose some.
    assert int(samples[-1]["forecasts"]) > 0.4 * RATE * SECONDS
    assert {sample["wrong"] for sample in samples} == {"0"}


def test_a_node_that_holds_steady_passes() -> None:
    assert verdict(WELL, {}, 3600) == []


def test_what_happens_while_it_warms_up_does_not_count() -> None:
    cold = [replace(sample, resident=sample.resident // 2, threads=5, handles=5) for sample in WELL[:72]]
    assert verdict(cold[:71] + WELL[71:], {}, 3600) == []
    assert verdict(cold + WELL[72:], {}, 3600) != []


def test_a_handle_that_is_open_for_a_moment_is_no_growth() -> None:
    samples = [replace(sample, handles=31 if i % 10 == 0 else 30) for i, sample in enumerate(WELL)]
    assert verdict(samples, {}, 3600) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda i, s: replace(s, resident=s.resident + i * MIB // 60), "memory varies by 2.4%, more than 2%"),
        (lambda i, s: replace(s, resident=s.resident + 5 * MIB * (i == 200)), "memory varies by 2.5%"),
        (lambda i, s: replace(s, threads=20 + (i > 240)), "threads grow from 20 to 21"),
        (lambda i, s: replace(s, handles=30 + i // 50), "handles grow from 32 to 36"),
        (lambda i, s: replace(s, forecasts=min(s.forecasts, 35_900)), "no forecast between 3590 and 3600 s"),
    ],
)
def test_what_grows_or_stops_is_named(change, expected: str) -> None:
    faults = verdict([change(i, sample) for i, sample in enumerate(WELL)], {}, 3600)
    assert len(faults) == 1
    assert faults[0].startswith(expected)


def test_wrong_stamps_fail() -> None:
    assert verdict(WELL, {"its stamp was never sent": 3}, 3600) == ["wrong in 3 forecasts: its stamp was never sent"]


def test_a_soak_of_a_node_that_cannot_start_says_why(drive_bag: Path, tiny: Bundle) -> None:
    words = ["--bundle", tiny.path, "--drive", drive_bag, "--engine", "onnxruntime", "--precision", "bf16"]
    soak = start("-m", "re2pix_node.cli", "soak", *words)
    _, error = soak.communicate(timeout=120)
    assert soak.returncode == 2
    assert "onnxruntime bf16: this machine does not offer it" in error.splitlines()[-1]
