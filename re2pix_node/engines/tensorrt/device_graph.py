"""One engine on the GPU: it allocates all memory when it is loaded, and a run is one launch."""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.reader import Signature, Tensor
from re2pix_node.common.wording import one_line
from re2pix_node.engines.tensorrt.cuda import DeviceMemory
from re2pix_node.errors import EngineError

logger = logging.getLogger(__name__)


class Gpu(Protocol):
    """The parts of `cuda.Cuda` that are used; copies are in order with everything else on its stream."""

    stream: int

    def enter(self) -> None: ...
    def allocate(self, size: int) -> DeviceMemory: ...
    def pinned(self, size: int) -> tuple[DeviceMemory, NDArray[np.uint8]]: ...
    def to_device(self, target: int, source: int, size: int) -> None: ...
    def to_host(self, target: int, source: int, size: int) -> None: ...
    def copy(self, target: int, source: int, size: int) -> None: ...
    def synchronise(self) -> None: ...
    def capture(self, work: Callable[[], None]) -> Callable[[], None]: ...


class Staging:
    """Pinned memory in the shape of a tensor."""

    def __init__(self, gpu: Gpu, tensor: Tensor) -> None:
        self.size = byte_size(tensor)
        self._memory, view = gpu.pinned(self.size)
        self.pointer = self._memory.pointer
        self.array: NDArray[Any] = view.view(tensor.dtype).reshape(tensor.shape)


class DeviceGraph:
    """An ICudaEngine with its buffers. Every run copies the `staged` tensors from and to `host`."""

    def __init__(self, gpu: Gpu, engine: Any, nptype: Callable[[Any], Any], input_mode: Any, staged: set[str]) -> None:
        self._gpu, self._engine = gpu, engine
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError("there is not enough GPU memory for the engine")
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        tensors = {
            name: Tensor(np.dtype(nptype(engine.get_tensor_dtype(name))).name, tuple(engine.get_tensor_shape(name)))
            for name in names
        }
        inputs = [name for name in names if engine.get_tensor_mode(name) == input_mode]
        self.signature = Signature(
            {name: tensors[name] for name in inputs},
            {name: tensor for name, tensor in tensors.items() if name not in inputs},
        )
        self.device = {name: gpu.allocate(byte_size(tensor)) for name, tensor in tensors.items()}
        self.host = {name: Staging(gpu, tensor) for name, tensor in tensors.items() if name in staged}
        for name, memory in self.device.items():
            if not self._context.set_tensor_address(name, memory.pointer):
                raise EngineError(f"TensorRT does not accept memory for '{name}'")
        self._launch = self._recorded()

    def run(self) -> None:
        """Run from the inputs' buffers to the outputs'; return when it is done."""
        self._launch()
        self._gpu.synchronise()

    def _recorded(self) -> Callable[[], None]:
        """The run as one CUDA graph; the plain calls if TensorRT cannot be recorded."""
        for staging in self.host.values():
            staging.array[...] = 0
        self._enqueue()  # the first run sets things up, which must not be recorded
        self._gpu.synchronise()
        try:
            return self._gpu.capture(self._enqueue)
        except EngineError as error:
            logger.warning("TensorRT runs without a CUDA graph, a little slower: %s", one_line(error))
            return self._enqueue

    def _enqueue(self) -> None:
        self._stage(self.signature.inputs, self._gpu.to_device)
        if not self._context.execute_async_v3(self._gpu.stream):
            raise EngineError("TensorRT cannot run the engine")
        self._stage(self.signature.outputs, lambda device, host, size: self._gpu.to_host(host, device, size))

    def _stage(self, names: Iterable[str], copy: Callable[[int, int, int], None]) -> None:
        for name in names:
            if name in self.host:
                copy(self.device[name].pointer, self.host[name].pointer, self.host[name].size)


class DeviceFeatures:
    """Encoded features on the GPU. Their memory is reused when nothing refers to them any more."""

    def __init__(self, memory: DeviceMemory, free: list[DeviceMemory]) -> None:
        self.memory = memory
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.memory)


class FeaturePool:
    """Memory places for features on the GPU: as many as were ever in use at once.

    Work in progress may still read a released place. That is safe: the next write to it comes later on the same
    stream.
    """

    def __init__(self, gpu: Gpu, tensor: Tensor) -> None:
        self._gpu = gpu
        self.tensor = tensor
        self.size = byte_size(tensor)
        self._free: list[DeviceMemory] = []

    def take(self) -> DeviceFeatures:
        try:
            memory = self._free.pop()
        except IndexError:
            memory = self._gpu.allocate(self.size)
        return DeviceFeatures(memory, self._free)


def byte_size(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
