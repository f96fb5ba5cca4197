"""Which TensorRT this machine has: NVIDIA's own, or TensorRT-RTX for desktops. One API, as far as we use it."""

import importlib
import importlib.util
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from re2pix_node.errors import EngineError

OLDEST = (10, 3)  # JetPack 6 has it
SYSTEM = Path("/usr/lib")  # JetPack's packages put it into python3.10/dist-packages here


@dataclass(frozen=True)
class Bindings:
    """A Python module that is TensorRT; importing it is left to whoever needs it."""

    module: str
    title: str

    @property
    def rtx(self) -> bool:
        return self.module != "tensorrt"

    @property
    def installed(self) -> bool:
        spec = importlib.util.find_spec(self.module)
        return spec is not None and spec.origin is not None  # any folder of that name would have a spec

    def load(self) -> Any:
        """The module; EngineError when it is broken or too old."""
        try:
            trt = importlib.import_module(self.module)
            version = str(trt.__version__)
        except Exception as error:  # a library that is missing shows in more than one way
            raise EngineError(f"{self.module} is installed but cannot be loaded: {error}") from None
        if not self.rtx and release(version) < OLDEST:
            raise EngineError(f"{self.title} {version} is too old: it takes {'.'.join(map(str, OLDEST))} or later")
        return trt


TENSORRT = Bindings("tensorrt", "TensorRT")
RTX = Bindings("tensorrt_rtx_bindings", "TensorRT-RTX")


def find_bindings() -> Bindings:
    for bindings in (TENSORRT, RTX):
        if bindings.installed:
            return bindings
    system = next(SYSTEM.glob("python3*/dist-packages/tensorrt"), None)
    if system:
        raise EngineError(f"TensorRT is in {system}, which this Python does not see: docs/jetson.md shows how it does")
    mend = (
        "sudo apt install python3-libnvinfer (docs/jetson.md)"
        if platform.machine() == "aarch64"
        else "pip install tensorrt, or tensorrt-rtx-cu13-libs and tensorrt-rtx-cu13-bindings"
    )
    raise EngineError(f"TensorRT is not installed: {mend}")


def release(version: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)
