"""The interface of an engine, the only one that the pipeline knows, and code that all engines share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from re2pix_node.bundle.reader import Bundle, Signature, signatures
from re2pix_node.common.wording import one_line
from re2pix_node.errors import BundleError, EngineError

# Encoded features as the engine holds them: an array here, device memory in a GPU engine.
Features: TypeAlias = Any
Arrays: TypeAlias = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ForecastArrays:
    """The outputs of the forecast graph."""

    features: NDArray[Any]  # [samples, horizons, h, w, channels]
    labels: NDArray[Any]  # u8 [samples, 1 + horizons, H', W'], index 0 = now
    confidence: NDArray[Any]  # u8, as labels
    optional: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # each [samples, 1 + horizons, ...]


def forecast_arrays(outputs: Arrays) -> ForecastArrays:
    """The outputs of the forecast graph, from its dictionary, which is emptied."""
    return ForecastArrays(outputs.pop("features"), outputs.pop("labels"), outputs.pop("confidence"), outputs)


class Engine(Protocol):
    """A bundle's graphs, loaded and ready."""

    name: str
    precision: str
    version: str

    def encode(self, frame: NDArray[Any]) -> Features:
        """Features of one picture, u8 [1, H, W, 3] RGB."""

    def forecast(self, context: Sequence[Features], noise: NDArray[Any] | None = None) -> ForecastArrays:
        """The forecast from T encoded frames, oldest first; stochastic ones take noise (`draw_noise`)."""

    def upload(self, features: NDArray[Any]) -> Features:
        """An array, converted to the form that `encode` returns."""

    def fetch(self, features: Features) -> NDArray[Any]:
        """Encoded features as an array."""


class Graph(Protocol):
    """One loaded graph of an engine that works in host memory."""

    signature: Signature

    def run(self, inputs: Arrays) -> Arrays:
        """All outputs by name, in memory that later runs do not change."""


@dataclass(frozen=True)
class BuildProgress:
    """The progress of a build."""

    percent: float
    seconds: float  # since the start
    phase: str


class BuildInProgress(Protocol):
    """An engine that is being built in the background."""

    def progress(self) -> BuildProgress: ...

    def done(self) -> bool: ...

    def result(self) -> object:
        """Wait for the end; raise an error if the build failed."""

    def cancel(self) -> None: ...


@dataclass(frozen=True)
class Runtime:
    """A way to run graphs: its name, its abilities on this machine, and how to load an engine."""

    name: str
    version: Callable[[], str]  # EngineError when it is not installed
    precisions: Callable[[], list[str]]  # best first
    load: Callable[[Bundle, str, int], Engine]  # bundle, precision, threads
    # For runtimes whose engines take minutes to build: whether an engine exists, and how to start a build.
    ready: Callable[[Bundle, str], bool] | None = None
    start_build: Callable[[Bundle, str], BuildInProgress] | None = None
    # For runtimes that work in host memory: load one graph from its bytes, precision and threads.
    load_graph: Callable[[bytes, str, int], Graph] | None = None


class HostEngine:
    """An engine made of graphs with arrays as inputs and outputs."""

    def __init__(self, name: str, precision: str, version: str, graphs: Mapping[str, Graph]) -> None:
        self.name = name
        self.precision = precision
        self.version = version
        self._encode = graphs["encode"]
        self._forecast = graphs["forecast"]

    def encode(self, frame: NDArray[Any]) -> Features:
        return self._run(self._encode, "encode", {"frame": frame})["features"]

    def forecast(self, context: Sequence[Features], noise: NDArray[Any] | None = None) -> ForecastArrays:
        inputs = {f"context_{i}": features for i, features in enumerate(context)}
        if noise is not None:
            inputs["noise"] = noise
        return forecast_arrays(self._run(self._forecast, "forecast", inputs))

    def upload(self, features: NDArray[Any]) -> Features:
        return features

    def fetch(self, features: Features) -> NDArray[Any]:
        array: NDArray[Any] = features
        return array

    def _run(self, graph: Graph, what: str, inputs: Arrays) -> Arrays:
        try:
            return graph.run(inputs)
        except Exception as error:  # each runtime has its own kinds of errors
            raise EngineError(f"{self.name} {self.precision}: {what} failed: {one_line(error)}") from error


def load_host_engine(
    runtime: str, precision: str, version: str, bundle: Bundle, load_graph: Callable[[bytes], Graph]
) -> HostEngine:
    graphs = {
        name: load_checked(f"{runtime} {precision}", bundle, name, expected, load_graph)
        for name, expected in signatures(bundle.manifest).items()
    }
    return HostEngine(runtime, precision, version, graphs)


def load_checked(
    who: str, bundle: Bundle, name: str, expected: Signature, load_graph: Callable[[bytes], Graph]
) -> Graph:
    """Load a graph of the bundle and check it against the manifest."""
    data = bundle.graph(name)
    try:
        graph = load_graph(data)
    except Exception as error:  # each runtime has its own kinds of errors
        raise EngineError(f"{who}: cannot load {name}.onnx: {one_line(error)}") from error
    check_signature(bundle, name, graph.signature, expected)
    return graph


def check_signature(bundle: Bundle, graph: str, found: Signature, expected: Signature) -> None:
    """Raise BundleError if the graph's inputs or outputs differ from the manifest."""
    where = f"{bundle.path}: {graph}.onnx"
    for kind in ("inputs", "outputs"):
        have, want = getattr(found, kind), getattr(expected, kind)
        for name in sorted(have.keys() ^ want.keys()):
            state = "is missing" if name in want else "is not of the contract"
            raise BundleError(f"{where}: the {kind[:-1]} '{name}' {state}; expected are {', '.join(want)}")
        for name, tensor in want.items():
            if have[name] != tensor:
                raise BundleError(f"{where}: the {kind[:-1]} '{name}' is {have[name]}, the manifest asks for {tensor}")
