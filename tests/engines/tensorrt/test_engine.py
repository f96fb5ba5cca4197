"""The TensorRT engine as far as it runs without a GPU: why it is not available, and how it uses device memory."""

import importlib.util
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.onnxruntime import RUNTIME as ONNXRUNTIME
from re2pix_node.engines.proof import prove
from re2pix_node.engines.tensorrt import bindings, cuda
from re2pix_node.engines.tensorrt import engine as tensorrt
from re2pix_node.engines.tensorrt.cuda import Cuda, Device, find_device
from re2pix_node.engines.tensorrt.device_graph import DeviceGraph
from re2pix_node.errors import EngineError
from tests.support.drive import frame
from tests.support.host_gpu import HostCuda, HostEngine

STAGED = {"encode": {"frame"}, "forecast": {"noise", "features", "labels", "confidence"}}

MODES = {"input": 1, "output": 2}


def load(gpu: HostCuda, bundle: Bundle) -> tensorrt.TensorrtEngine:
    device = Cuda()
    graphs = {
        name: DeviceGraph(device, HostEngine(gpu, bundle.graph(name), MODES), lambda kind: kind, 1, staged)
        for name, staged in STAGED.items()
    }
    return tensorrt.TensorrtEngine(device, graphs["encode"], graphs["forecast"], "fp32", "0")


def frames(count: int) -> list[np.ndarray]:
    return [frame(0.2 * i, 256, 128)[None] for i in range(count)]


def test_it_proves_itself(gpu: HostCuda, tiny: Bundle) -> None:
    proof = prove(load(gpu, tiny), tiny)
    assert proof.passed
    assert proof.relative_l2 < 1e-5


def test_forecasts_from_features_on_the_device_are_those_of_another_engine(gpu: HostCuda, tiny: Bundle) -> None:
    reference = ONNXRUNTIME.load(tiny, "fp32", 1)
    engine = load(gpu, tiny)
    ours = [engine.encode(picture) for picture in frames(6)]
    theirs = [reference.encode(picture) for picture in frames(6)]
    for start in (0, 2, 1):
        found = engine.forecast(ours[start : start + 4])
        wanted = reference.forecast(theirs[start : start + 4])
        np.testing.assert_allclose(found.features, wanted.features, atol=1e-6)
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_array_equal(found.confidence, wanted.confidence)


def test_results_are_not_overwritten(gpu: HostCuda, tiny: Bundle) -> None:
    engine = load(gpu, tiny)
    context = [engine.encode(picture) for picture in frames(5)]
    outputs, fetched = engine.forecast(context[:4]), engine.fetch(context[0])
    kept = [array.copy() for array in (outputs.features, outputs.labels, outputs.confidence, fetched)]
    engine.forecast(context[1:])
    engine.fetch(context[1])
    for array, before in zip((outputs.features, outputs.labels, outputs.confidence, fetched), kept, strict=True):
        np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(engine.fetch(context[0]), fetched)


def test_no_frame_takes_memory_once_the_buffer_is_full(gpu: HostCuda, tiny: Bundle) -> None:
    engine = load(gpu, tiny)
    held = [engine.encode(picture) for picture in frames(6)]
    engine.forecast(held[-4:])
    taken = gpu.taken
    for picture in frames(30):
        held.pop(0)
        held.append(engine.encode(picture))
        engine.forecast(held[-4:])
    assert gpu.taken == taken


def test_features_that_are_held_keep_their_place(gpu: HostCuda, tiny: Bundle) -> None:
    engine = load(gpu, tiny)
    for picture in frames(3):
        engine.encode(picture)  # dropped at once
    held = [engine.encode(picture) for picture in frames(3)]
    before = [engine.fetch(features) for features in held]
    assert not np.array_equal(before[0], before[1])
    for picture in frames(8):
        engine.encode(picture)
    for features, array in zip(held, before, strict=True):
        np.testing.assert_array_equal(engine.fetch(features), array)


def test_a_run_is_one_launch_of_a_cuda_graph(gpu: HostCuda, tiny: Bundle) -> None:
    engine = load(gpu, tiny)
    before = gpu.launches
    context = [engine.encode(picture) for picture in frames(4)]
    engine.forecast(context)
    assert gpu.launches - before == 5


@pytest.mark.parametrize("function", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_without_cuda_graphs_it_runs_all_the_same(
    gpu: HostCuda, tiny: Bundle, function: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOST_CUDA_FAILS", function)
    before = gpu.launches
    with caplog.at_level(logging.WARNING):
        assert prove(load(gpu, tiny), tiny).passed
    assert gpu.launches == before
    assert f"without a CUDA graph, a little slower: the NVIDIA driver fails: {function}" in caplog.text


@pytest.mark.parametrize("first", ["encode", "forecast", "upload", "fetch"])
def test_each_call_may_be_the_first_on_its_thread(gpu: HostCuda, tiny: Bundle, first: str) -> None:
    engine = load(gpu, tiny)
    held = engine.encode(frames(1)[0])
    array = engine.fetch(held)
    arguments = {"encode": frames(1)[0], "forecast": [held] * 4, "upload": array, "fetch": held}
    with ThreadPoolExecutor(1) as other:
        assert other.submit(getattr(engine, first), arguments[first]).result() is not None


def test_a_fault_of_the_gpu_is_an_error_of_the_engine(
    gpu: HostCuda, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(gpu, tiny)
    monkeypatch.setenv("HOST_CUDA_FAILS", "cuStreamSynchronize")
    with pytest.raises(EngineError, match="the NVIDIA driver fails: cuStreamSynchronize: CUDA_ERROR_OTHER"):
        engine.encode(frames(1)[0])


def test_too_little_memory_is_named(gpu: HostCuda, tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_CUDA_FAILS", "cuMemAlloc_v2")
    monkeypatch.setenv("HOST_CUDA_FAILS_WITH", "2")
    with pytest.raises(EngineError, match="cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY"):
        load(gpu, tiny)


def test_the_device_is_described(gpu: HostCuda) -> None:
    device = find_device()
    assert (device.name, device.capability) == ("Host GPU", "8.6")
    assert "CUDA 12.6" in device.driver


def test_a_driver_without_a_gpu_says_so(gpu: HostCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_CUDA_FAILS", "cuInit")
    monkeypatch.setenv("HOST_CUDA_FAILS_WITH", "100")
    with pytest.raises(EngineError, match=r"the NVIDIA driver fails: cuInit: CUDA_ERROR_NO_DEVICE \(100\)"):
        find_device()


def test_a_driver_that_lacks_a_function_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.c").write_text("int cuInit(unsigned int flags) { return 0; }")
    subprocess.run(["cc", "-shared", tmp_path / "a.c", "-o", tmp_path / "libcuda.so.1"], check=True)
    monkeypatch.setattr(cuda, "LIBRARY", str(tmp_path / "libcuda.so.1"))
    with pytest.raises(EngineError, match="the NVIDIA driver is too old: it has no cuDeviceGet"):
        find_device()


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules hide the real ones."""
    for module in ("tensorrt", "tensorrt_rtx_bindings"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("ask", [tensorrt.RUNTIME.version, tensorrt.RUNTIME.precisions])
class TestWhyItCannotBeHad:
    def test_no_library(self, ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(bindings, "SYSTEM", tmp_path)
        with pytest.raises(EngineError, match=r"TensorRT is not installed: (pip|sudo apt) install"):
            ask()

    def test_a_library_that_this_python_does_not_see(self, ask, monkeypatch, tmp_path: Path) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(bindings, "SYSTEM", tmp_path)
        (tmp_path / "python3.10/dist-packages/tensorrt").mkdir(parents=True)
        with pytest.raises(EngineError, match=r"which this Python does not see: link it as docs/jetson\.md"):
            ask()

    def test_no_driver_and_the_library_is_not_even_loaded(self, ask, modules: Path, monkeypatch) -> None:
        (modules / "tensorrt.py").write_text("import os; os._exit(99)")
        monkeypatch.setattr(cuda, "LIBRARY", "libcuda-that-is-not-there.so.1")
        with pytest.raises(EngineError, match=r"there is no NVIDIA driver \(.* cannot be loaded\)"):
            ask()

    def test_a_library_that_is_too_old(self, ask, modules: Path, gpu: HostCuda) -> None:
        (modules / "tensorrt.py").write_text("__version__ = '10.2.1.5'")
        with pytest.raises(EngineError, match=r"TensorRT 10\.2\.1\.5 is too old: 10\.3 or later is needed"):
            ask()

    def test_a_library_that_is_broken(self, ask, modules: Path, gpu: HostCuda) -> None:
        (modules / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
        with pytest.raises(EngineError, match=r"tensorrt is installed but cannot be loaded: libnvinfer\.so\.10"):
            ask()


def test_a_folder_that_happens_to_have_the_name_is_not_tensorrt(modules: Path) -> None:
    (modules / "tensorrt").mkdir()
    assert not bindings.TENSORRT.installed
    (modules / "tensorrt/__init__.py").write_text("")
    assert bindings.TENSORRT.installed


@pytest.mark.parametrize(("major", "offered"), [("8", ["fp16", "bf16", "fp32"]), ("7", ["fp16", "fp32"])])
def test_bf16_is_offered_where_the_gpu_has_it(
    gpu: HostCuda, modules: Path, monkeypatch: pytest.MonkeyPatch, major: str, offered: list[str]
) -> None:
    (modules / "tensorrt.py").write_text("__version__ = '10.3.0'")
    monkeypatch.setenv("HOST_CUDA_MAJOR", major)
    assert tensorrt.RUNTIME.precisions() == offered
    assert tensorrt.RUNTIME.version() == "10.3.0"


def test_engines_of_tensorrt_are_for_one_gpu_and_driver_those_of_rtx_for_a_capability(
    modules: Path, tiny: Bundle
) -> None:
    for module in ("tensorrt", "tensorrt_rtx_bindings"):
        (modules / f"{module}.py").write_text("__version__ = '10.3.0'")
    device = Device("RTX A2000", "8.6", "570 (CUDA 12.8)")
    [encode, forecast] = tensorrt.engine_jobs(tiny, "fp16", bindings.TENSORRT, device)
    assert (encode.key.gpu, encode.key.driver, encode.key.library) == (device.name, device.driver, "TensorRT 10.3.0")
    assert (encode.key.graph, forecast.key.graph) == (
        tiny.manifest.graphs.encode.sha256,
        tiny.manifest.graphs.forecast.sha256,
    )
    assert encode.what == "tiny encode fp16"
    [encode, _] = tensorrt.engine_jobs(tiny, "fp16", bindings.RTX, device)
    assert (encode.key.gpu, encode.key.driver, encode.key.capability) == ("any", "any", "8.6")
