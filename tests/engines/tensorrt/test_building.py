"""Builds in processes of their own: progress, crashes, orders to stop, and engines that are loaded in the end."""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.commands import build as build_command
from re2pix_node.engines import onnxruntime, session
from re2pix_node.engines.attempt import try_engine
from re2pix_node.engines.session import open_engine
from re2pix_node.engines.tensorrt import engine as tensorrt
from re2pix_node.engines.tensorrt.building import EngineBuild
from re2pix_node.engines.tensorrt.network import Phases
from re2pix_node.errors import EngineError
from tests.engines.test_engines import rewrite
from tests.support.processes import has_ended, wait_until_ended


def names(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"*.{kind}"))


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def test_progress_is_told_from_the_start_to_the_end(host_tensorrt: Path, tiny: Bundle) -> None:
    build = tensorrt.start_build(tiny, "fp32")
    told = []
    while not build.done():
        told.append(build.progress())
        time.sleep(0.01)
    told.append(build.progress())
    percents = [progress.percent for progress in told]
    assert percents == sorted(percents)
    assert (percents[0] < 10, percents[-1], told[-1].phase) == (True, 100.0, "ready")
    assert len({round(percent) for percent in percents if 0 < percent < 100}) >= 3
    assert any(progress.phase == "tiny forecast fp32: Timing" for progress in told)
    assert [progress.seconds for progress in told] == sorted(progress.seconds for progress in told)
    time.sleep(0.1)
    assert build.progress() == told[-1]
    assert sorted(build.result()) == names(host_tensorrt, "engine")
    made = [engine.stat().st_mtime_ns for engine in build.result()]
    assert tensorrt.start_build(tiny, "fp32").result(timeout=60) == build.result()
    assert [engine.stat().st_mtime_ns for engine in build.result()] == made  # they were not built again


def test_an_engine_is_built_loaded_and_proved_and_the_sidecar_has_the_figures(
    host_tensorrt: Path, tiny: Bundle
) -> None:
    for _ in range(2):
        engine, attempt = try_engine(tensorrt.RUNTIME, tiny, "fp16", 1)
        assert attempt.fault is None
        assert engine is not None
        assert (engine.name, engine.precision, engine.version) == ("tensorrt", "fp16", "10.3.0")
        assert attempt.proof is not None
        assert 1e-5 < attempt.proof.relative_l2 < 1e-2
        del engine
    sidecars = [json.loads(path.read_text()) for path in names(host_tensorrt, "json")]
    assert {told["what"] for told in sidecars} == {"tiny encode fp16", "tiny forecast fp16"}
    assert all(told["proof"] == str(attempt.proof) and told["proved"] for told in sidecars)
    assert {told["key"]["gpu"] for told in sidecars} == {"Host GPU"}


def test_the_ladder_goes_on_where_a_precision_fails(
    host_tensorrt: Path, tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = rewrite(tiny, tmp_path / "strict", relative_l2=1e-5)
    monkeypatch.setattr(session, "runtimes", lambda: (tensorrt.RUNTIME, onnxruntime.RUNTIME))
    engine, attempts = open_engine(strict)
    assert (engine.name, engine.precision) == ("tensorrt", "fp32")
    fp16, bf16, fp32 = attempts
    assert "relative L2" in str(fp16)
    assert bf16.fault is not None  # ONNX Runtime, which stands in here, has no bf16
    assert "TensorRT 10.3.0 does not read the graph: In node 0:" in bf16.fault
    assert fp32.fault is None
    del engine


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("crash", "tiny encode fp32: the builder was ended by SIGSEGV"),
        ("refuse", "tiny encode fp32: TensorRT 10.3.0 cannot build: No tactic fits"),
    ],
)
def test_a_builder_that_fails_costs_the_engine_and_no_more(
    host_tensorrt: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch, wrong: str, message: str
) -> None:
    monkeypatch.setenv("HOST_TENSORRT", wrong)
    build = tensorrt.start_build(tiny, "fp32")
    with pytest.raises(EngineError, match=message):
        build.result(timeout=60)
    assert message in build.progress().phase
    assert build.progress().percent < 100
    assert names(host_tensorrt, "engine") == names(host_tensorrt, "json") == []
    assert not list(host_tensorrt.glob(".partial*"))
    monkeypatch.delenv("HOST_TENSORRT")
    assert len(tensorrt.start_build(tiny, "fp32").result(timeout=60)) == 2


def test_a_build_can_be_stopped(host_tensorrt: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_TENSORRT", "hang")
    build = tensorrt.start_build(tiny, "fp32")
    wait_for(lambda: "Timing" in build.progress().phase)
    with pytest.raises(TimeoutError):
        build.result(timeout=0.1)
    build.cancel()
    with pytest.raises(EngineError, match="building was stopped"):
        build.result(timeout=10)
    assert {path.suffix for path in host_tensorrt.iterdir()} == {".lock"}


PARENT = """
import sys, time
from pathlib import Path
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.engines.tensorrt import engine as tensorrt
from re2pix_node.engines.tensorrt import cuda
cuda.LIBRARY = sys.argv[2]
build = tensorrt.start_build(read_bundle(Path(sys.argv[1])), "fp32")
while "Timing" not in build.progress().phase:
    time.sleep(0.02)
print(build._process.pid, flush=True)
time.sleep(1000)
"""


def test_the_builder_ends_when_its_parent_is_killed(
    host_tensorrt: Path, tiny: Bundle, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_TENSORRT", "hang")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    command = [sys.executable, "-c", PARENT, str(tiny.path), str(library)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert not has_ended(worker)
        parent.send_signal(signal.SIGKILL)
    assert wait_until_ended(worker)
    monkeypatch.delenv("HOST_TENSORRT")
    assert len(tensorrt.start_build(tiny, "fp32").result(timeout=60)) == 2


def test_times_of_earlier_builds_are_used_and_damaged_ones_are_not(
    host_tensorrt: Path, tiny: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    tensorrt.start_build(tiny, "fp32").result()
    [timing] = names(host_tensorrt, "timing")
    assert timing.read_bytes() == b"timed;timed;"
    timing.write_bytes(b"damaged")
    with caplog.at_level(logging.INFO):
        tensorrt.start_build(tiny, "fp16").result()
    assert f"{timing}: not usable, so everything is timed again" in caplog.text
    assert timing.read_bytes() == b"timed;timed;"


def test_a_graph_that_was_replaced_meanwhile_is_not_built(host_tensorrt: Path, tiny: Bundle, tmp_path: Path) -> None:
    bundle = rewrite(tiny, tmp_path / "copy", relative_l2=0.02)
    bindings, device = tensorrt.usable()
    jobs = tensorrt.engine_jobs(bundle, "fp32", bindings, device)
    jobs[0].graph.write_bytes(jobs[1].graph.read_bytes())
    with pytest.raises(EngineError, match=r"encode\.onnx: was replaced during the build"):
        EngineBuild(tensorrt.EngineCache(), jobs).result()


def test_without_the_onnx_package_the_error_says_what_to_install(
    host_tensorrt: Path, tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('No module named onnx', name='onnx')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match="building engines needs the Python package onnx: pip install onnx"):
        tensorrt.start_build(tiny, "fp32").result()


def test_the_share_of_nested_phases_never_falls() -> None:
    phases = Phases()
    shares = []
    phases.start("all", 2)
    for part in range(2):
        phases.start("part", 4)
        for step in range(3):  # the last step is never told, as happens
            phases.step("part", step)
            shares.append(phases.share)
        phases.finish("part")
        shares.append(phases.share)
        phases.step("all", part)
        shares.append(phases.share)
    assert shares == sorted(shares)
    assert shares[:3] == [0.125, 0.25, 0.375]
    assert shares[4] == 0.5
    assert shares[-1] == 1.0


def build_command_output(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    parser = argparse.ArgumentParser()
    build_command.add_arguments(parser)
    assert build_command.run(parser.parse_args(words)) == 0
    return capsys.readouterr().out.splitlines()


def test_the_command_goes_down_to_the_precision_that_proves_itself(
    host_tensorrt: Path, tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = build_command_output(capsys, str(tiny.path))
    assert lines[-1].startswith("tensorrt fp16: proved (features relative L2")
    lines = build_command_output(capsys, str(tiny.path), "--precision", "fp32")
    assert lines[-1].startswith("tensorrt fp32: proved (features relative L2")
    assert len(names(host_tensorrt, "engine")) == 4


def test_the_command_says_why_there_is_no_engine(
    host_tensorrt: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOST_CUDA_MAJOR", "7")
    with pytest.raises(EngineError, match=r"the Host GPU does not compute in bf16, only in fp16, fp32"):
        build_command_output(capsys, str(tiny.path), "--precision", "bf16")
    monkeypatch.setenv("HOST_TENSORRT", "refuse")
    with pytest.raises(EngineError, match=r"no engine reproduces .*tiny: tiny encode fp16: .*; tiny encode fp32: "):
        build_command_output(capsys, str(tiny.path))
