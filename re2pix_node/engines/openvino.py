"""OpenVINO on the CPU: the fast default, in bf16 if the CPU computes it natively."""

from typing import TYPE_CHECKING, Any

import numpy as np

from re2pix_node.bundle.reader import Bundle, Signature, Tensor
from re2pix_node.common.quiet_openvino import import_openvino
from re2pix_node.engines.base import Arrays, Engine, Graph, Runtime, load_host_engine
from re2pix_node.errors import EngineError

if TYPE_CHECKING:
    import openvino

NAME = "openvino"
_HINTS = {"bf16": "bf16", "fp32": "f32"}


class _OpenvinoGraph:
    def __init__(self, core: "openvino.Core", data: bytes, precision: str, threads: int) -> None:
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
        }
        model = core.read_model(data)
        if threads == 1 and _has_dynamic_shapes(model):
            raise EngineError("OpenVINO hides errors of graphs with data-dependent shapes on one thread: give it two")
        # Before it is compiled: where the last operation does nothing, an output then has the name before it, too.
        names = [[port.get_any_name() for port in ports] for ports in (model.inputs, model.outputs)]
        self._model = core.compile_model(model, "CPU", config)
        self._request = self._model.create_infer_request()
        tensors = [map(_tensor, ports) for ports in (self._model.inputs, self._model.outputs)]
        inputs, outputs = (dict(zip(*pair, strict=True)) for pair in zip(names, tensors, strict=True))
        self.signature = Signature(inputs, outputs)

    def run(self, inputs: Arrays) -> Arrays:
        results = self._request.infer(inputs, share_inputs=True, share_outputs=False)
        return dict(zip(self.signature.outputs, results.values(), strict=True))


def _has_dynamic_shapes(model: Any) -> bool:
    """Such graphs can fail at run time. With one thread OpenVINO (2025.4) then returns the previous run's outputs."""
    return any(output.get_partial_shape().is_dynamic for node in model.get_ops() for output in node.outputs())


def _tensor(port: Any) -> Tensor:
    return Tensor(np.dtype(port.get_element_type().to_dtype()).name, tuple(port.get_partial_shape().get_max_shape()))


def _import() -> Any:
    try:
        return import_openvino()
    except ImportError as error:
        raise EngineError(f"openvino is not installed ({error}): pip install openvino") from None


def version() -> str:
    return str(_import().__version__).split("-")[0]


def _precisions() -> list[str]:
    capabilities = _import().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["bf16", "fp32"] if "BF16" in capabilities else ["fp32"]


def load_graph(data: bytes, precision: str, threads: int) -> Graph:
    """Load one graph without a bundle."""
    return _OpenvinoGraph(_import().Core(), data, precision, threads)


def _load(bundle: Bundle, precision: str, threads: int) -> Engine:
    core = _import().Core()

    def load(data: bytes) -> Graph:
        return _OpenvinoGraph(core, data, precision, threads)

    return load_host_engine(NAME, precision, version(), bundle, load)


RUNTIME = Runtime(NAME, version, _precisions, _load, load_graph=load_graph)
