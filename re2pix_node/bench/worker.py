"""One engine under test in its own process: its memory is measured alone, and a crash costs only its row."""

import contextlib
import ctypes
import time
from collections.abc import Callable
from ctypes import byref, c_size_t
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from re2pix_node.bench.products import Products
from re2pix_node.bench.roofline import Roof, gpu_copy_rate, host_copy_rate, product_rate
from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import Bundle, read_manifest
from re2pix_node.common.child_process import ChildProcess
from re2pix_node.common.wording import one_line
from re2pix_node.engines.attempt import try_engine
from re2pix_node.engines.registry import runtimes
from re2pix_node.engines.tensorrt import cuda
from re2pix_node.engines.tensorrt import engine as on_gpu
from re2pix_node.errors import EngineError
from re2pix_node.pipeline.pipeline import Pipeline

STAGES = ("encode", "forecast", "end_to_end")


@dataclass(frozen=True)
class BenchTask:
    bundle: Path
    engine: str
    precision: str
    threads: int

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class MemoryUse:
    """Maximum bytes that the engine took, loading included."""

    host: int
    gpu: int | None  # without CUDA's own; None for engines on the CPU


class Worker:
    """The engine's process, seen from the benchmark. Any failure in it is an EngineError here."""

    def __init__(self, task: BenchTask) -> None:
        self.task = task
        self._child = ChildProcess(__name__, "serve", task)
        try:
            self.version, self.proof = self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._child.pid

    def turn(self) -> dict[str, float]:
        """Run each of STAGES once and return the seconds that each took."""
        return self._ask("turn")  # type: ignore[no-any-return]

    def memory(self) -> MemoryUse:
        """The memory use. Call it before `roof`, which allocates more memory."""
        return self._ask("memory")  # type: ignore[no-any-return]

    def roof(self, folder: Path, products: Products) -> Roof:
        return self._ask("roof", folder, products)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._child.close(2)  # the process ends when its pipe is closed

    def _ask(self, *question: Any) -> Any:
        with contextlib.suppress(BrokenPipeError):  # `_answer` tells how it ended
            self._child.pipe.send(question)
        return self._answer()

    def _answer(self) -> Any:
        try:
            fault, answer = self._child.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise EngineError(f"{self.task}: its process {self._child.how_it_ended()}") from None
        if fault:
            raise EngineError(f"{self.task}: {fault.removeprefix(f'{self.task}: ')}")
        return answer


def serve(pipe: Connection, task: BenchTask) -> None:
    """The child's side: load the engine, then answer questions until the pipe is closed."""
    try:
        subject = _Subject(task)
        pipe.send(("", (subject.version, subject.proof)))
        while True:
            name, *arguments = pipe.recv()
            pipe.send(("", getattr(subject, name)(*arguments)))
    except EOFError:
        return
    except Exception as error:  # the parent reports all of them
        with contextlib.suppress(BrokenPipeError):
            pipe.send((one_line(error), None))


class _Subject:
    """The loaded engine."""

    def __init__(self, task: BenchTask) -> None:
        self._runtime = next(runtime for runtime in runtimes() if runtime.name == task.engine)
        self._task = task
        # Not `read_bundle`, which holds the graphs for a while: that memory would hide the engine's.
        bundle = Bundle(task.bundle, read_manifest(task.bundle))
        self._inputs = bundle.proof()
        self._host_before = _memory_line("VmRSS")
        self._gpu = cuda.Cuda() if task.engine == on_gpu.NAME else None
        self._gpu_before = _gpu_memory(self._gpu)
        engine, attempt = try_engine(self._runtime, bundle, task.precision, task.threads)
        if engine is None:
            raise EngineError(str(attempt))
        self._engine = engine
        self.version, self.proof = engine.version, str(attempt.proof)
        context = bundle.manifest.time.context
        self._context = [engine.upload(self._inputs[f"forecast.context_{i}"]) for i in range(context)]
        self._pipeline = Pipeline(bundle, engine)
        self._stride = round(bundle.manifest.time.stride * NANOSECONDS)
        self._stamp = 0
        for _ in range(context - 1):
            self._observe()

    def turn(self) -> dict[str, float]:
        noise = self._inputs.get("forecast.noise")
        runs: tuple[Callable[[], object], ...] = (
            lambda: self._engine.encode(self._inputs["encode.frame"]),
            lambda: self._engine.forecast(self._context, noise),
            self._observe,
        )
        return {stage: _seconds(run) for stage, run in zip(STAGES, runs, strict=True)}

    def memory(self) -> MemoryUse:
        gpu = None if self._gpu is None else max(0, _gpu_memory(self._gpu) - self._gpu_before)
        return MemoryUse(_memory_line("VmHWM") - self._host_before, gpu)

    def roof(self, folder: Path, products: Products) -> Roof:
        bundle = Bundle(folder, read_manifest(folder))
        engine, attempt = try_engine(self._runtime, bundle, self._task.precision, self._task.threads)
        if engine is None:
            raise EngineError(str(attempt))
        copies = host_copy_rate(self._task.threads) if self._gpu is None else gpu_copy_rate(self._gpu)
        return Roof(product_rate(engine, bundle, products), copies)

    def _observe(self) -> object:
        """From a decoded frame, as in the node, to a forecast in host memory."""
        self._stamp += self._stride
        return self._pipeline.observe(self._inputs["encode.frame"][0], self._stamp)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _memory_line(name: str) -> int:
    """A line of this process's status: VmRSS is its memory now, VmHWM its maximum so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def _gpu_memory(gpu: cuda.Cuda | None) -> int:
    """Bytes of the GPU's memory in use by all programs; the driver gives no other figure."""
    if gpu is None:
        return 0
    gpu.enter()
    free, total = c_size_t(), c_size_t()
    code = ctypes.CDLL(cuda.LIBRARY).cuMemGetInfo_v2(byref(free), byref(total))
    if code:
        raise EngineError(f"the NVIDIA driver fails: cuMemGetInfo_v2 ({code})")
    return total.value - free.value
