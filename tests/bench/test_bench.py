"""`re2pix bench`, with real engines in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from re2pix_node.bench import measure
from re2pix_node.bench.measure import BenchPlan, bench
from re2pix_node.bench.products import Products, write_products
from re2pix_node.bench.table import COLUMNS, bench_table
from re2pix_node.bench.worker import STAGES, BenchTask, Worker
from re2pix_node.bundle.reader import Bundle
from re2pix_node.cli import main
from re2pix_node.engines.onnxruntime import RUNTIME as ONNXRUNTIME
from re2pix_node.engines.proof import prove
from re2pix_node.errors import EngineError
from tests.support.ros_node import environment

PLAN = BenchPlan("onnxruntime", "auto", 1, 2)


@pytest.fixture
def low_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are not about the roof: the products by which it is measured take a second for each engine."""
    monkeypatch.setattr(measure, "FOR_CPU", Products(256, 2))


def bench_command(*words: object) -> int:
    return main(["bench", *map(str, words)])


def test_every_engine_has_a_row(tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "row.json"
    assert bench_command("--bundle", tiny.path, "--runs", 3, "--json", file) == 0
    said, told = capsys.readouterr().out, json.loads(file.read_text())
    assert max(map(len, said.splitlines())) <= COLUMNS
    assert told["machine"]["cpu"] in said
    assert told["settings"]["runs"] == 3
    [figures] = told["bundles"]
    assert figures["bundle"]["graphs"]["encode"] == tiny.basis
    rows = {f"{row['engine']} {row['precision']}": row for row in figures["engines"]}
    assert {"onnxruntime fp32", "openvino fp32"} <= rows.keys()
    assert min(row["times_the_fastest"] for row in rows.values()) == 1
    for name, row in rows.items():
        assert name in said
        check_row(row, figures["work"])


def check_row(row: dict[str, Any], work: dict[str, Any]) -> None:
    roof = row["roof"]
    for stage in STAGES:
        assert 0 < row[stage]["median_ms"] <= row[stage]["p99_ms"]
        assert row[stage]["share"] == pytest.approx(row[stage]["least_ms"] / row[stage]["median_ms"])
    assert row["end_to_end"]["least_ms"] == pytest.approx(row["encode"]["least_ms"] + row["forecast"]["least_ms"])
    least = row["encode"]["least_ms"] * (1 + 1e-12)  # what rounding may cost
    assert least >= 1e3 * work["encode"]["flops"] / roof["flops_per_second"]
    assert least >= 1e3 * work["encode"]["other"] / roof["copied_bytes_per_second"]
    assert row["memory_bytes"]["host"] > 1 << 20
    assert row["memory_bytes"]["gpu"] is None
    assert row["proof"].startswith("features relative L2")


def test_one_engine_at_one_precision(low_roof: None, tiny: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_command("--bundle", tiny.path, "--runs", 1, "--engine", "openvino", "--precision", "fp32") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if " (" in line and "x " in line] == [["openvino", "fp32"]]
    assert not any("onnxruntime" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "0"], "--runs must be at least 1, is 0"),
        (["--json", "/nowhere/row.json"], "the folder /nowhere does not exist"),
        (
            ["--engine", "onnxruntime", "--precision", "fp16"],
            "onnxruntime: this machine does not offer it in fp16, only in fp32",
        ),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    tiny: Bundle, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert bench_command("--bundle", tiny.path, *words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_without_the_onnx_package_only_the_shares_are_missing(
    low_roof: None, tiny: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # as where it is not installed
    assert bench_command("--bundle", tiny.path, "--runs", 1, "--engine", "onnxruntime") == 0
    said = capsys.readouterr().out
    assert "pip install onnx)" in said
    assert "roof" not in said.replace("roofline", "")
    assert "GFLOP" not in said


def test_memory_is_that_of_the_engine_alone(tmp_path: Path) -> None:
    hoard = np.ones(400 << 20, np.uint8)  # ours: no engine is to blame
    taken = []
    for side in (64, 2048):
        bundle = write_products(tmp_path / str(side), Products(side, 1))
        worker = Worker(BenchTask(bundle.path, "onnxruntime", "fp32", 1))
        worker.turn()
        taken.append(worker.memory().host)
        status = Path(f"/proc/{worker.pid}/status").read_text()
        most = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        worker.close()
        assert taken[-1] + (20 << 20) < int(most.split()[1]) << 10  # without Python and NumPy
    weights = 4 * 2048**2
    assert taken[0] + weights < taken[1] < taken[0] + 20 * weights
    assert taken[0] < hoard.nbytes / 4


def test_products_are_what_engines_compute(tmp_path: Path) -> None:
    bundle = write_products(tmp_path / "products", Products(96, 3))
    assert prove(ONNXRUNTIME.load(bundle, "fp32", 1), bundle).relative_l2 < 1e-5


def test_an_engine_that_dies_costs_its_row_only(low_roof: None, tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, killed = Worker.turn, []

    def deadly_turn(worker: Worker) -> dict[str, float]:
        if worker.task.engine == "openvino" and worker.task.precision == "fp32":
            os.kill(worker.pid, signal.SIGKILL)
            killed.append(worker.pid)
        return turn(worker)

    monkeypatch.setattr(Worker, "turn", deadly_turn)
    figures = bench(tiny, BenchPlan("auto", "fp32", 1, 1))
    assert [row["engine"] for row in figures["engines"]] == ["onnxruntime"]
    assert "openvino fp32: its process was ended by SIGKILL" in figures["passed_over"]
    assert len(killed) == 1


def test_an_engine_that_cannot_be_loaded_says_why(tiny: Bundle) -> None:
    with pytest.raises(EngineError, match="tensorrt fp16: "):
        Worker(BenchTask(tiny.path, "tensorrt", "fp16", 1))


def test_processes_end_with_one_that_is_killed(tiny: Bundle) -> None:
    code = f"""
import os, pathlib, signal
from re2pix_node.bench.worker import BenchTask, Worker
print(Worker(BenchTask(pathlib.Path({str(tiny.path)!r}), "onnxruntime", "fp32", 1)).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True)
    process = Path("/proc") / done.stdout.strip()
    deadline = time.monotonic() + 30
    while process.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done.stdout.strip()
    assert not process.exists()


def test_processes_end_with_the_benchmark(tiny: Bundle) -> None:
    worker = Worker(BenchTask(tiny.path, "onnxruntime", "fp32", 1))
    assert set(worker.turn()) == set(STAGES)
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_a_wide_table_fits() -> None:
    times = {"median_ms": 9999.0, "p99_ms": 654321.0, "share": 0.345}
    row = dict.fromkeys(STAGES, times) | {
        "engine": "onnxruntime",
        "precision": "fp32",
        "times_the_fastest": 123.4,
        "memory_bytes": {"host": 12345 << 20, "gpu": None},
        "roof": {"flops_per_second": 1e12, "copied_bytes_per_second": 1e11},
    }
    fast = {"median_ms": 1.234, "p99_ms": 12.34, "share": 0.345}
    gpu = dict.fromkeys(STAGES, fast) | {
        "engine": "tensorrt",
        "precision": "fp16",
        "times_the_fastest": 1.0,
        "memory_bytes": {"host": 1234 << 20, "gpu": 12345 << 20},
        "roof": {"flops_per_second": 1e15, "copied_bytes_per_second": 4.8e12},
    }
    identity = {"name": "official-448x896-1", "image": [448, 896], "context": 4, "horizons": 3}
    work = {graph: {"flops": 19.7e12} for graph in ("encode", "forecast")}
    figures = {"bundle": identity, "work": work, "engines": [row, gpu], "passed_over": ["why " * 60]}
    machine = {"cpu": "ARMv8 Processor rev 1 (v8l)", "gpu": {"name": "NVIDIA Jetson AGX Orin 64GB"}}
    lines = bench_table(figures, machine, 12, 100).splitlines()
    assert max(map(len, lines)) <= COLUMNS
    assert any("34%" in line for line in lines)
