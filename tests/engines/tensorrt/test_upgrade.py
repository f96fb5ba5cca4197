"""Engines for the GPU that are built while the CPU serves."""

from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines import EngineSupply
from re2pix_node.engines.proof import prove
from re2pix_node.engines.tensorrt import cuda
from re2pix_node.engines.tensorrt import engine as tensorrt
from tests.engines.tensorrt.test_building import wait_for
from tests.engines.test_engines import rewrite


def upgraded(supply: EngineSupply):
    found = []
    wait_for(lambda: found.append(supply.upgraded()) or found[-1] or not supply.building())
    return found[-1] or supply.upgraded()


def test_the_cpu_serves_until_the_gpu_is_proved(host_tensorrt: Path, tiny: Bundle) -> None:
    assert not tensorrt.is_built(tiny, "fp16")
    supply = EngineSupply(tiny, background=True)
    serving = supply.next()
    assert serving.name == "openvino"
    phases = set()
    wait_for(lambda: phases.add(supply.building()) or any("tiny forecast fp16: Timing" in phase for phase in phases))
    assert supply.upgraded() is None
    assert prove(serving, tiny).passed  # meanwhile
    engine = upgraded(supply)
    assert (engine.name, engine.precision) == ("tensorrt", "fp16")
    assert prove(engine, tiny).passed
    assert supply.building() == ""
    assert tensorrt.is_built(tiny, "fp16")
    assert EngineSupply(tiny, background=True).next().name == "tensorrt"  # at once, from the cache


def test_precisions_that_fail_are_told_and_the_next_is_made(host_tensorrt: Path, tiny: Bundle, tmp_path: Path) -> None:
    strict = rewrite(tiny, tmp_path / "strict", relative_l2=1e-5)
    supply = EngineSupply(strict, background=True)
    supply.next()
    engine = upgraded(supply)
    assert (engine.name, engine.precision) == ("tensorrt", "fp32")
    faults = [fault for fault in supply.passed_over if fault.startswith("tensorrt")]
    assert "tensorrt fp16: " in faults[0]
    assert "relative L2" in faults[0]
    assert "tensorrt bf16: " in faults[1]
    # Nor does the next start wait, for a precision that is known to fail and one that must be tried after it.
    again = EngineSupply(strict, background=True)
    assert again.next().name == "openvino"
    assert upgraded(again).name == "tensorrt"


def test_without_a_driver_the_cpu_serves_and_the_reason_is_told(
    host_tensorrt: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", "libcuda-that-is-not-there.so.1")
    supply = EngineSupply(tiny, background=True)
    assert supply.next().name == "openvino"
    assert supply.building() == ""
    assert "tensorrt auto: there is no NVIDIA driver" in supply.passed_over[0]


def test_when_the_supply_closes_nothing_is_built_any_more(
    host_tensorrt: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_TENSORRT", "hang")
    supply = EngineSupply(tiny, background=True)
    supply.next()
    wait_for(lambda: "Timing" in supply.building())
    supply.close()
    wait_for(lambda: supply.building() == "", 10)
    assert supply.upgraded() is None
    assert {path.suffix for path in host_tensorrt.iterdir()} == {".lock"}
