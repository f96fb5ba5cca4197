"""ONNX Runtime on the CPU: always available, and the reference."""

from typing import TYPE_CHECKING

from re2pix_node.bundle.reader import Bundle, Signature, Tensor
from re2pix_node.engines.base import Arrays, Engine, Graph, Runtime, load_host_engine
from re2pix_node.errors import EngineError

if TYPE_CHECKING:
    import onnxruntime

NAME = "onnxruntime"
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


class _OnnxruntimeGraph:
    def __init__(self, data: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads burn the cores that the rest of the vehicle's software needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self.signature = Signature(
            {node.name: _tensor(node) for node in self._session.get_inputs()},
            {node.name: _tensor(node) for node in self._session.get_outputs()},
        )

    def run(self, inputs: Arrays) -> Arrays:
        return dict(zip(self.signature.outputs, self._session.run(None, inputs), strict=True))


def _tensor(node: "onnxruntime.NodeArg") -> Tensor:
    return Tensor(_DTYPES.get(node.type, node.type), tuple(node.shape))


def version() -> str:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"onnxruntime is not installed ({error}): pip install onnxruntime") from None
    return str(onnxruntime.__version__)


def load_graph(data: bytes, precision: str, threads: int) -> Graph:
    return _OnnxruntimeGraph(data, threads)


def _load(bundle: Bundle, precision: str, threads: int) -> Engine:
    return load_host_engine(NAME, precision, version(), bundle, lambda data: load_graph(data, precision, threads))


RUNTIME = Runtime(NAME, version, lambda: ["fp32"], _load, load_graph=load_graph)
