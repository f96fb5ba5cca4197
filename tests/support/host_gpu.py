"""A GPU that is none: libcuda over host memory, and engines of TensorRT's interface that ONNX Runtime computes."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FOLDER = Path(__file__).parent
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def compile_host_libcuda(folder: Path) -> Path:
    library = folder / "libcuda.so.1"
    source = FOLDER / "host_libcuda.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", library], check=True)
    return library


class HostCuda:
    """What tests ask of the library itself."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.host_of.restype = ctypes.c_void_p
        self.library.host_of.argtypes = [ctypes.c_uint64, ctypes.c_size_t]

    def __getattr__(self, name: str) -> int:
        return getattr(self.library, f"host_{name}")()

    def array(self, address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        host = self.library.host_of(address, size)
        assert host, f"{address:#x} is not the address of {size} bytes on the device"
        return np.frombuffer((ctypes.c_uint8 * size).from_address(host), dtype).reshape(shape)


class HostEngine:
    """The part of ICudaEngine that we use."""

    def __init__(self, gpu: HostCuda, graph: bytes, modes: dict[str, Any]) -> None:
        self.gpu, self.modes = gpu, modes
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = {node.name: node for node in self.session.get_inputs()}
        self.tensors = {**self.inputs, **{node.name: node for node in self.session.get_outputs()}}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.modes["input" if name in self.inputs else "output"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def get_tensor_dtype(self, name: str) -> str:
        return DTYPES[self.tensors[name].type]

    def create_execution_context(self) -> Any:
        return HostContext(self)


class HostContext:
    """The part of IExecutionContext that we use."""

    def __init__(self, engine: HostEngine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.runs = 0
        self._kernel = KERNEL(self._compute)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.tensors

    def execute_async_v3(self, stream: int) -> bool:
        assert stream
        self.engine.gpu.library.host_run(self._kernel, None)
        return True

    def _compute(self, _: object) -> None:
        self.runs += 1
        arrays = {
            name: self.engine.gpu.array(address, self.engine.get_tensor_shape(name), self.engine.get_tensor_dtype(name))
            for name, address in self.addresses.items()
        }
        results = self.engine.session.run(None, {name: arrays[name] for name in self.engine.inputs})
        for node, result in zip(self.engine.session.get_outputs(), results, strict=True):
            arrays[node.name][...] = result
