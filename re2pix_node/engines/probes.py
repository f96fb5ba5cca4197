"""Code that `re2pix doctor` runs in a child process to see whether an engine loads. It sets `found` or raises."""

ONNXRUNTIME = """import onnxruntime
found = f"{onnxruntime.__version__} with {', '.join(onnxruntime.get_available_providers())}" """

OPENVINO = """from re2pix_node.common.quiet_openvino import import_openvino
openvino = import_openvino()
core = openvino.Core()
bf16 = "native bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "no native bf16"
found = f"{openvino.__version__.split('-')[0]} on {', '.join(core.available_devices)}; {bf16} on the CPU" """

# Only the import: trt.Runtime ends the process if there is no driver.
TENSORRT = """try: import tensorrt; title, oldest = "TensorRT", (10, 3)
except ModuleNotFoundError as absent:
    try: import tensorrt_rtx_bindings as tensorrt; title, oldest = "TensorRT-RTX", (1, 0)
    except ModuleNotFoundError: raise absent from None
found = f"{title} {tensorrt.__version__}"
release = tuple(map(int, tensorrt.__version__.split(".")[:2]))
if release < oldest: raise ImportError(f"{found} is too old: 10.3 or later is needed")"""


def plain(module: str) -> str:
    return f"import {module}\nfound = getattr({module}, '__version__', 'loads')"
