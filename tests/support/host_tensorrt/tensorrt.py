"""A TensorRT for machines without a GPU: builds by keeping the graph, and runs it with ONNX Runtime over host_libcuda.

Only what re2pix_node uses, as 10.3 has it. HOST_TENSORRT says how a build goes wrong: crash, hang, refuse;
or wait, for the file HOST_TENSORRT_GO.
"""

import enum
import os
import signal
import time
from pathlib import Path

import numpy as np
import onnxruntime

from re2pix_node.engines.tensorrt import cuda
from tests.support.host_gpu import HostCuda, HostEngine

__version__ = "10.3.0"


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class IProgressMonitor:
    pass


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"timed;"


class Config:
    progress_monitor: IProgressMonitor

    def create_timing_cache(self, content: bytes) -> TimingCache | None:
        return None if content.startswith(b"damaged") else TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return not ignore_mismatch

    def get_timing_cache(self) -> TimingCache:
        return self.cache


class Network:
    graph = b""


class ParserError:
    def __init__(self, text: str) -> None:
        self.text = text

    def desc(self) -> str:
        return self.text


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, logger: ILogger) -> None:
        self.network = network

    def parse(self, graph: bytes) -> bool:
        try:
            onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        except Exception as error:
            self.num_errors, self.error = 1, ParserError(f"In node 0: {error}")
            return False
        self.network.graph = graph
        return True

    def get_error(self, index: int) -> ParserError:
        return self.error


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags == 2  # strongly typed
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        monitor, wrong = config.progress_monitor, os.environ.get("HOST_TENSORRT")
        monitor.phase_start("Building", None, 2)
        monitor.phase_start("Timing", "Building", 4)
        for step in range(4):
            time.sleep(0.11)
            monitor.step_complete("Timing", step)
            if wrong == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            if wrong == "hang":
                time.sleep(1000)
            while wrong == "wait" and not Path(os.environ["HOST_TENSORRT_GO"]).exists():
                time.sleep(0.05)
        if wrong == "refuse":
            self.logger.log(ILogger.Severity.ERROR, "No tactic fits")
            return None
        monitor.phase_finish("Timing")
        monitor.step_complete("Building", 0)
        monitor.phase_finish("Building")
        return network.graph


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.gpu = HostCuda(Path(cuda.LIBRARY))

    def deserialize_cuda_engine(self, engine: bytes) -> HostEngine:
        return HostEngine(self.gpu, engine, {"input": TensorIOMode.INPUT, "output": TensorIOMode.OUTPUT})


def nptype(kind: str) -> type:
    return np.dtype(kind).type
