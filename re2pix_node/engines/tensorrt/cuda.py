"""Device memory, one stream and CUDA graphs, through the driver's own library.

Every machine with a usable GPU has libcuda, and nothing else is needed: no CUDA toolkit, no cuda-python, no torch.
Signatures are those of cuda.h; its macros map the plain names to those that end in _v2.
"""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_ulonglong, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.errors import EngineError

LIBRARY = "libcuda.so.1"
KERNEL_MODULE = Path("/sys/module/nvidia/version")  # not on every Jetson

_POINTER, _HANDLE = c_uint64, c_void_p  # CUdeviceptr is an integer, contexts and streams are pointers
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuDevicePrimaryCtxSetFlags_v2": (c_int, c_uint),
    "cuDevicePrimaryCtxRetain": (POINTER(_HANDLE), c_int),
    "cuCtxSetCurrent": (_HANDLE,),
    "cuMemAlloc_v2": (POINTER(_POINTER), c_size_t),
    "cuMemsetD8Async": (_POINTER, c_ubyte, c_size_t, _HANDLE),
    "cuMemFree_v2": (_POINTER,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (_POINTER, c_void_p, c_size_t, _HANDLE),
    "cuMemcpyDtoHAsync_v2": (c_void_p, _POINTER, c_size_t, _HANDLE),
    "cuMemcpyDtoDAsync_v2": (_POINTER, _POINTER, c_size_t, _HANDLE),
    "cuStreamCreate": (POINTER(_HANDLE), c_uint),
    "cuStreamSynchronize": (_HANDLE,),
    "cuStreamBeginCapture_v2": (_HANDLE, c_int),
    "cuStreamEndCapture": (_HANDLE, POINTER(_HANDLE)),
    "cuGraphInstantiateWithFlags": (POINTER(_HANDLE), _HANDLE, c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphDestroy": (_HANDLE,),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuStreamDestroy_v2": (_HANDLE,),
}
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
SLEEP_WHILE_WAITING = 4  # CU_CTX_SCHED_BLOCKING_SYNC: a spinning thread would use up a core that the vehicle needs
NON_BLOCKING = 1
CAPTURE_THREAD_LOCAL = 1  # calls of other threads do not disturb the capture


@dataclass(frozen=True)
class Device:
    name: str
    capability: str  # as "8.6"
    driver: str


class CudaDriver:
    """libcuda, initialised. EngineError says why there is no usable GPU."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise EngineError(f"there is no NVIDIA driver ({LIBRARY} cannot be loaded)") from None
        self("cuInit", 0)
        self.ordinal = c_int()
        self("cuDeviceGet", byref(self.ordinal), 0)

    def __call__(self, name: str, *arguments: Any) -> None:
        code = self._function(name)(*arguments)
        if code:
            text = c_char_p()
            self._function("cuGetErrorName")(code, byref(text))
            raise EngineError(f"the NVIDIA driver fails: {name}: {(text.value or b'error').decode()} ({code})")

    def device(self) -> Device:
        name, version, major, minor = ctypes.create_string_buffer(128), c_int(), c_int(), c_int()
        self("cuDeviceGetName", name, len(name), self.ordinal)
        self("cuDriverGetVersion", byref(version))
        self("cuDeviceGetAttribute", byref(major), CAPABILITY_MAJOR, self.ordinal)
        self("cuDeviceGetAttribute", byref(minor), CAPABILITY_MINOR, self.ordinal)
        module = f"{KERNEL_MODULE.read_text().strip()} " if KERNEL_MODULE.is_file() else ""
        driver = f"{module}(CUDA {version.value // 1000}.{version.value % 1000 // 10})"
        return Device(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", driver)

    def _function(self, name: str) -> Any:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise EngineError(f"the NVIDIA driver is too old: it has no {name}") from None
        function.argtypes, function.restype = _SIGNATURES[name], c_int
        return function


def find_device() -> Device:
    """The first GPU that CUDA_VISIBLE_DEVICES allows; EngineError says why there is none."""
    return CudaDriver().device()


class DeviceMemory:
    """Device or pinned memory, freed when nothing refers to it any more."""

    def __init__(self, pointer: int, give_back: Callable[[int], None]) -> None:
        self.pointer = pointer
        self._give_back = give_back

    def __del__(self) -> None:
        self._give_back(self.pointer)


class Cuda:
    """The GPU's memory, and one stream on which everything happens in order."""

    def __init__(self) -> None:
        self._driver = CudaDriver()
        self._context = _HANDLE()
        self._driver("cuDevicePrimaryCtxSetFlags_v2", self._driver.ordinal, SLEEP_WHILE_WAITING)
        # TensorRT uses the primary context, which lives as long as the process.
        self._driver("cuDevicePrimaryCtxRetain", byref(self._context), self._driver.ordinal)
        self.enter()
        stream = _HANDLE()
        self._driver("cuStreamCreate", byref(stream), NON_BLOCKING)
        self.stream = int(stream.value or 0)

    def enter(self) -> None:
        """Call this first on every thread: each thread has its own current context."""
        self._driver("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> DeviceMemory:
        """Allocate device memory of zeros: old content could be NaN."""
        pointer = _POINTER()
        self._driver("cuMemAlloc_v2", byref(pointer), size)
        memory = DeviceMemory(pointer.value, lambda pointer: self._free("cuMemFree_v2", pointer))
        self._driver("cuMemsetD8Async", memory.pointer, 0, size, self.stream)
        return memory

    def pinned(self, size: int) -> tuple[DeviceMemory, NDArray[np.uint8]]:
        """Host memory that the GPU reads and writes directly, and a view of it as bytes."""
        pointer = c_void_p()
        self._driver("cuMemHostAlloc", byref(pointer), size, 0)
        address = int(pointer.value or 0)
        view = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        return DeviceMemory(address, lambda pointer: self._free("cuMemFreeHost", pointer)), view

    def to_device(self, target: int, source: int, size: int) -> None:
        self._driver("cuMemcpyHtoDAsync_v2", target, source, size, self.stream)

    def to_host(self, target: int, source: int, size: int) -> None:
        self._driver("cuMemcpyDtoHAsync_v2", target, source, size, self.stream)

    def copy(self, target: int, source: int, size: int) -> None:
        self._driver("cuMemcpyDtoDAsync_v2", target, source, size, self.stream)

    def synchronise(self) -> None:
        self._driver("cuStreamSynchronize", self.stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the calls of `work` on the stream; the returned launch runs them all."""
        graph, replay = _HANDLE(), _HANDLE()
        self._driver("cuStreamBeginCapture_v2", self.stream, CAPTURE_THREAD_LOCAL)
        try:
            work()
        finally:  # a stream that stays in capture mode is unusable
            self._driver("cuStreamEndCapture", self.stream, byref(graph))
        try:
            self._driver("cuGraphInstantiateWithFlags", byref(replay), graph, 0)
        finally:
            self._driver("cuGraphDestroy", graph)
        held = DeviceMemory(int(replay.value or 0), lambda pointer: self._free("cuGraphExecDestroy", pointer))
        return lambda: self._driver("cuGraphLaunch", held.pointer, self.stream)

    def __del__(self) -> None:
        if getattr(self, "stream", 0):
            self._free("cuStreamDestroy_v2", self.stream)

    def _free(self, function: str, pointer: int) -> None:
        try:
            self.enter()  # Python frees objects on any thread
            self._driver(function, pointer)
        except EngineError:
            pass  # the GPU failed or the process ends: the driver frees all memory
