"""A bundle is loaded in a child process first: what would end or stop this process ends the child."""

import os
import time
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.common import watched_process
from re2pix_node.engines import registry, trial
from re2pix_node.engines.attempt import try_engine
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import EngineError
from tests.support import faulty_engine, hostile_graphs


@pytest.fixture(autouse=True)
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turn the trial on; return the folder of those who passed."""
    monkeypatch.delenv("RE2PIX_TRIAL")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "_ENTRIES", [faulty_engine.ENTRY, *registry._ENTRIES])
    return tmp_path / "cache/re2pix/tried"


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faulty engine must not be loaded in this process."""
    monkeypatch.setenv("RE2PIX_FAULTY_PARENT", str(os.getpid()))
    monkeypatch.setattr(faulty_engine, "PARENT", str(os.getpid()))


@pytest.mark.usefixtures("fails")
def test_a_crash_is_a_line_and_the_next_engine_is_tried(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RE2PIX_MAX_LOAD_SECONDS", "3")
    runtime = faulty_engine.RUNTIME
    _, attempt = try_engine(runtime, tiny, "fp16", 1)
    assert str(attempt) == (
        "faulty fp16: it was ended by SIGSEGV (free(): invalid pointer\\x1b[2J) when it loaded and proved this bundle"
    )


@pytest.mark.usefixtures("fails")
def test_one_that_hangs_is_ended_with_its_limit(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RE2PIX_MAX_LOAD_SECONDS", "2")
    begun = time.monotonic()
    _, attempt = try_engine(faulty_engine.RUNTIME, tiny, "bf16", 1)
    assert time.monotonic() - begun < 60
    assert "it hung and was ended, the limit is 2 seconds: set RE2PIX_MAX_LOAD_SECONDS to raise it" in str(attempt)


@pytest.mark.usefixtures("fails")
def test_one_that_takes_all_memory_is_ended_with_its_limit(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RE2PIX_FAULTY_MEMORY", "1")
    # A hundredth of four times the memory that a Python with NumPy has at once.
    monkeypatch.setattr(watched_process, "_resident", lambda pid: 100 * resident(pid))
    _, attempt = try_engine(faulty_engine.RUNTIME, tiny, "fp32", 1)
    assert "it took too much memory and was ended, the limit is 75 percent of the memory" in str(attempt)


resident = watched_process._resident


def test_who_has_passed_is_not_tried_again(tiny: Bundle, trials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_engine(tiny, "onnxruntime")[0].name == "onnxruntime"
    (passed,) = trials.iterdir()
    monkeypatch.setattr(trial, "CHILD", "no.such.module")
    assert open_engine(tiny, "onnxruntime")[0].name == "onnxruntime"
    passed.unlink()
    with pytest.raises(EngineError, match=r"it ended with code 1 \(ModuleNotFoundError: No module named 'no'\)"):
        open_engine(tiny, "onnxruntime")
    assert not list(trials.iterdir())


def test_without_a_folder_to_remember_it_works_too(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    assert open_engine(tiny, "onnxruntime")[0].name == "onnxruntime"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_loop_without_end_ends(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setenv("RE2PIX_MAX_LOAD_SECONDS", "3")
    data = hostile_graphs.endless((tiny.path / "encode.onnx").read_bytes())
    bundle = read_bundle(hostile_graphs.with_graph(tiny.path, tmp_path / "b", encode=data))
    with pytest.raises(EngineError, match=f"{engine} fp32: it hung and was ended, the limit is 3 seconds"):
        open_engine(bundle, engine, "fp32")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_tensor_larger_than_any_memory_costs_the_engine(tiny: Bundle, tmp_path: Path, engine: str) -> None:
    data = hostile_graphs.vast_inside((tiny.path / "encode.onnx").read_bytes(), 2**46)
    bundle = read_bundle(hostile_graphs.with_graph(tiny.path, tmp_path / "b", encode=data))
    with pytest.raises(EngineError, match=f"no engine can run .*{engine}"):
        open_engine(bundle, engine, "fp32")
