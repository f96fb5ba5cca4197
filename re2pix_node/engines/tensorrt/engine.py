"""TensorRT and TensorRT-RTX on NVIDIA GPUs. Engines are built for this machine and stored (engines/cache.py)."""

import logging
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from re2pix_node.bundle.reader import Bundle, signatures
from re2pix_node.common.wording import one_line
from re2pix_node.engines.base import (
    Engine,
    Features,
    ForecastArrays,
    Runtime,
    check_signature,
    forecast_arrays,
)
from re2pix_node.engines.cache import EngineCache, EngineKey
from re2pix_node.engines.proof import prove
from re2pix_node.engines.tensorrt.bindings import Bindings, find_bindings
from re2pix_node.engines.tensorrt.building import EngineBuild, EngineJob
from re2pix_node.engines.tensorrt.cuda import Cuda, Device, find_device
from re2pix_node.engines.tensorrt.device_graph import DeviceFeatures, DeviceGraph, FeaturePool, Gpu, Staging
from re2pix_node.engines.tensorrt.network import lasting_logger
from re2pix_node.errors import BundleError, EngineError

NAME = "tensorrt"
GRAPHS = ("encode", "forecast")
BUILDER = 1  # increase it with every change in how engines are built
BF16_SINCE = (8, 0)  # compute capability
# TensorRT-RTX does not measure; it needs only the compute capability: its engines fit every such GPU and driver.
ANY = "any"

logger = logging.getLogger(__name__)


def usable() -> tuple[Bindings, Device]:
    """The bindings and the device; EngineError says what is missing.

    The driver is checked before the library, because TensorRT ends the process without a driver.
    """
    bindings = find_bindings()
    device = find_device()
    bindings.load()
    return bindings, device


def version() -> str:
    bindings, _ = usable()
    return f"{bindings.load().__version__}{' (RTX)' if bindings.rtx else ''}"


def precisions() -> list[str]:
    _, device = usable()
    major, minor = device.capability.split(".")
    return ["fp16", "bf16", "fp32"] if (int(major), int(minor)) >= BF16_SINCE else ["fp16", "fp32"]


def engine_jobs(bundle: Bundle, precision: str, bindings: Bindings, device: Device) -> list[EngineJob]:
    """The engines that a bundle needs on such a device."""
    library = f"{bindings.title} {bindings.load().__version__}"
    gpu, driver = (ANY, ANY) if bindings.rtx else (device.name, device.driver)
    jobs = []
    for name in GRAPHS:
        entry = getattr(bundle.manifest.graphs, name)
        key = EngineKey(entry.sha256, library, gpu, device.capability, driver, precision, BUILDER)
        what = f"{bundle.manifest.name} {name} {precision}"
        jobs.append(EngineJob(key, what, bindings.module, (bundle.path / entry.file).absolute()))
    return jobs


def start_build(bundle: Bundle, precision: str, force: bool = False) -> EngineBuild:
    """Start to build the engines for this machine in the background; done at once if the cache has them."""
    return EngineBuild(EngineCache(), engine_jobs(bundle, precision, *usable()), force)


def is_built(bundle: Bundle, precision: str) -> bool:
    """Whether `load` gives a proved engine in seconds. After a failed proof others may have to be built."""
    cache, jobs = EngineCache(), engine_jobs(bundle, precision, *usable())
    return all(cache.has(job.key) and cache.told(job.key).get("proved") is not False for job in jobs)


class TensorrtEngine:
    """A bundle's graphs on the GPU. Features stay there, from `encode` to the forecasts that use them."""

    def __init__(self, gpu: Gpu, encode: DeviceGraph, forecast: DeviceGraph, precision: str, version: str) -> None:
        self.name, self.precision, self.version = NAME, precision, version
        self._gpu, self._encode, self._forecast = gpu, encode, forecast
        features = encode.signature.outputs["features"]
        self._pool = FeaturePool(gpu, features)
        self._transfer = Staging(gpu, features)
        self._context = [forecast.device[name] for name in _context_names(forecast)]

    def encode(self, frame: NDArray[Any]) -> Features:
        self._gpu.enter()
        features = self._pool.take()
        self._encode.host["frame"].array[...] = frame
        self._encode.run()
        self._gpu.copy(features.memory.pointer, self._encode.device["features"].pointer, self._pool.size)
        return features

    def forecast(self, context: Sequence[Features], noise: NDArray[Any] | None = None) -> ForecastArrays:
        self._gpu.enter()
        for place, features in zip(self._context, context, strict=True):
            self._gpu.copy(place.pointer, features.memory.pointer, self._pool.size)
        if noise is not None:
            self._forecast.host["noise"].array[...] = noise
        self._forecast.run()
        # Copies, because the next run writes to the same memory.
        return forecast_arrays(
            {name: self._forecast.host[name].array.copy() for name in self._forecast.signature.outputs}
        )

    def upload(self, features: NDArray[Any]) -> DeviceFeatures:
        self._gpu.enter()
        taken = self._pool.take()
        self._transfer.array[...] = features
        self._gpu.to_device(taken.memory.pointer, self._transfer.pointer, self._pool.size)
        self._gpu.synchronise()
        return taken

    def fetch(self, features: DeviceFeatures) -> NDArray[Any]:
        self._gpu.enter()
        self._gpu.to_host(self._transfer.pointer, features.memory.pointer, self._pool.size)
        self._gpu.synchronise()
        return self._transfer.array.copy()


def _context_names(forecast: DeviceGraph) -> list[str]:
    names = [name for name in forecast.signature.inputs if name.startswith("context_")]
    return sorted(names, key=lambda name: int(name.removeprefix("context_")))


def _load(bundle: Bundle, precision: str, _threads: int) -> Engine:
    """Load the engines; build missing ones, which takes minutes. To avoid the wait, call `start_build` first."""
    bindings, device = usable()
    cache, jobs = EngineCache(), engine_jobs(bundle, precision, bindings, device)
    paths = EngineBuild(cache, jobs).result()
    try:
        engine = _on_device(bindings, bundle, precision, dict(zip(GRAPHS, paths, strict=True)))
    except (EngineError, BundleError):
        raise
    except Exception as error:  # TensorRT has its own kinds of errors
        raise EngineError(f"{NAME} {precision}: cannot load: {one_line(error)}") from error
    proof = prove(engine, bundle)
    for job in jobs:
        cache.note(job.key, {"proof": str(proof), "proved": proof.passed})
    return engine


def _on_device(bindings: Bindings, bundle: Bundle, precision: str, paths: dict[str, Any]) -> TensorrtEngine:
    trt, gpu = bindings.load(), Cuda()
    runtime = trt.Runtime(lasting_logger(trt))
    graphs = {}
    for name, expected in signatures(bundle.manifest).items():
        engine = runtime.deserialize_cuda_engine(paths[name].read_bytes())
        if engine is None:
            raise EngineError(f"{NAME} {precision}: {paths[name]} is refused: delete it, and it will be built again")
        staged = {"frame", "noise"} | (set(expected.outputs) if name == "forecast" else set())
        graphs[name] = DeviceGraph(gpu, engine, trt.nptype, trt.TensorIOMode.INPUT, staged)
        check_signature(bundle, name, graphs[name].signature, expected)
    return TensorrtEngine(gpu, graphs["encode"], graphs["forecast"], precision, version())


RUNTIME = Runtime(NAME, version, precisions, _load, is_built, start_build)
