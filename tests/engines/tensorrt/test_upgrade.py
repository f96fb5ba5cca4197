"""Engines for the GPU that are built while the CPU serves."""

from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.proof import prove
from re2pix_node.engines.session import EngineSession
from re2pix_node.engines.tensorrt import cuda
from re2pix_node.engines.tensorrt import engine as tensorrt
from tests.engines.tensorrt.test_building import wait_for
from tests.engines.test_engines import rewrite


def upgraded(session: EngineSession):
    found = []
    wait_for(lambda: found.append(session.candidate()) or found[-1] or not session.building())
    return found[-1] or session.candidate()


def test_the_cpu_serves_until_the_gpu_is_proved(host_tensorrt: Path, tiny: Bundle) -> None:
    assert not tensorrt.is_built(tiny, "fp16")
    session = EngineSession(tiny, background=True)
    serving = session.start()
    assert serving.name == "openvino"
    phases = set()
    wait_for(lambda: phases.add(session.building()) or any("tiny forecast fp16: Timing" in phase for phase in phases))
    assert session.candidate() is None
    assert prove(serving, tiny).passed  # meanwhile
    engine = upgraded(session)
    assert (engine.name, engine.precision) == ("tensorrt", "fp16")
    assert prove(engine, tiny).passed
    assert session.building() == ""
    assert tensorrt.is_built(tiny, "fp16")
    assert EngineSession(tiny, background=True).start().name == "tensorrt"  # at once, from the cache


def test_precisions_that_fail_are_told_and_the_next_is_made(host_tensorrt: Path, tiny: Bundle, tmp_path: Path) -> None:
    strict = rewrite(tiny, tmp_path / "strict", relative_l2=1e-5)
    session = EngineSession(strict, background=True)
    session.start()
    engine = upgraded(session)
    assert (engine.name, engine.precision) == ("tensorrt", "fp32")
    faults = [fault for fault in session.passed_over if fault.startswith("tensorrt")]
    assert "tensorrt fp16: " in faults[0]
    assert "relative L2" in faults[0]
    assert "tensorrt bf16: " in faults[1]
    # Nor does the next start wait, for a precision that is known to fail and one that must be tried after it.
    again = EngineSession(strict, background=True)
    assert again.start().name == "openvino"
    assert upgraded(again).name == "tensorrt"


def test_without_a_driver_the_cpu_serves_and_the_reason_is_told(
    host_tensorrt: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", "libcuda-that-is-not-there.so.1")
    session = EngineSession(tiny, background=True)
    assert session.start().name == "openvino"
    assert session.building() == ""
    assert "tensorrt auto: there is no NVIDIA driver" in session.passed_over[0]


def test_a_cache_out_of_reach_costs_that_engine_and_no_more(
    host_tensorrt: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", f"/tmp/{300 * 'a'}")  # too long for a name
    session = EngineSession(tiny, background=True)
    assert session.start().name == "openvino"
    assert session.building() == ""
    assert any(told.startswith("tensorrt auto: ") and "name too long" in told for told in session.passed_over)


def test_when_the_session_closes_nothing_is_built_any_more(
    host_tensorrt: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_TENSORRT", "hang")
    session = EngineSession(tiny, background=True)
    session.start()
    wait_for(lambda: "Timing" in session.building())
    session.close()
    wait_for(lambda: session.building() == "", 10)
    assert session.candidate() is None
    assert {path.suffix for path in host_tensorrt.iterdir()} == {".lock"}
