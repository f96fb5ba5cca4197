"""Builds a serialised engine from a graph, with the API that TensorRT 10.3, 11 and TensorRT-RTX share."""

import functools
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from re2pix_node.common.atomic_write import write_beside
from re2pix_node.engines.tensorrt.bindings import Bindings
from re2pix_node.errors import EngineError

logger = logging.getLogger(__name__)
Report = Callable[[float, str], None]  # the share that is done, 0 to 1, and the phase


class Phases:
    """The progress of a build. TensorRT reports nested phases with a number of steps each."""

    def __init__(self) -> None:
        self._open: dict[str, list[int]] = {}  # steps and done, the outermost first
        self._most = 0.0

    def start(self, name: str, steps: int) -> None:
        self._open[name] = [max(steps, 1), 0]

    def step(self, name: str, step: int) -> None:
        if name in self._open:
            self._open[name][1] = step + 1

    def finish(self, name: str) -> None:
        self._open.pop(name, None)

    @property
    def share(self) -> float:
        """The share that is done. It never falls, although phases may end early and overlap."""
        share, size = 0.0, 1.0
        for steps, done in self._open.values():
            size /= steps
            share += min(done, steps) * size
        self._most = max(self._most, min(share, 1.0))
        return self._most


def new_logger(trt: Any, errors: list[str] | None = None) -> Any:
    """A logger that passes TensorRT's messages to ours and also appends its errors to `errors`."""
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            logger.log(level, "TensorRT: %s", message)
            if errors is not None and level == logging.ERROR:
                errors.append(" ".join(message.split()))

    return Logger()


@functools.cache
def lasting_logger(trt: Any) -> Any:
    """The logger for engines in use: TensorRT keeps the first logger it gets and may call it at any time."""
    return new_logger(trt)


def build_engine(bindings: Bindings, graph: bytes, capability: str, timing: Path, report: Report) -> Any:
    """The serialised engine, as a buffer. TensorRT-RTX builds for `capability`; TensorRT builds only for its GPU."""
    trt = bindings.load()
    errors: list[str] = []
    log = new_logger(trt, errors)
    report(0.0, "reading the graph")
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        told = [parser.get_error(i).desc() for i in range(parser.num_errors)] or errors or ["no reason given"]
        raise EngineError(f"{bindings.title} {trt.__version__} does not read the graph: {told[0]}")
    config = builder.create_builder_config()
    monitor = _monitor(trt, report)  # must outlive the build
    config.progress_monitor = monitor
    if bindings.rtx:  # it needs no GPU and has no timing cache
        _aim(trt, config, capability)
    else:
        _use_timings(config, timing)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError(f"{bindings.title} {trt.__version__} cannot build: {(errors or ['no reason given'])[-1]}")
    if not bindings.rtx:
        _keep_timings(config, timing)
    return engine


def _monitor(trt: Any, report: Report) -> Any:
    phases = Phases()
    lock = threading.Lock()  # TensorRT calls this from several threads, and an exception would end the process

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with lock:
                phases.start(name, steps)
                report(phases.share, name)

        def step_complete(self, name: str, step: int) -> bool:
            with lock:
                phases.step(name, step)
                report(phases.share, name)
            return True  # continue the build

        def phase_finish(self, name: str) -> None:
            with lock:
                phases.finish(name)

    return Monitor()


def _aim(trt: Any, config: Any, capability: str) -> None:
    name = f"SM{capability.replace('.', '')}"
    known = {key: value for key, value in trt.ComputeCapability.__members__.items() if key.startswith("SM")}
    if name not in known:
        names = ", ".join(sorted(known, key=lambda key: int(key[2:])))
        raise EngineError(f"TensorRT-RTX {trt.__version__} builds for {names}, not for {name}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[name], 0)


def _use_timings(config: Any, path: Path) -> None:
    """Use the timings of earlier builds on this GPU, which make a second build much faster."""
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known) if known else None
    if known and (cache is None or not config.set_timing_cache(cache, False)):
        logger.warning("%s: not usable, so everything is timed again", path)
        cache = None
    if cache is None:
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timings(config: Any, path: Path) -> None:
    try:
        with write_beside(path, replace=True) as partial:
            partial.write_bytes(memoryview(config.get_timing_cache().serialize()))
    except OSError as error:  # the engine is complete; only the next build is slower
        logger.warning("%s: cannot be written: %s", path, error)
