"""Finds the TensorRT of this machine: TensorRT, or TensorRT-RTX for desktops. The parts we use have the same API."""

import importlib
import importlib.util
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from re2pix_node.errors import EngineError

OLDEST = (10, 3)  # the version in JetPack 6
SYSTEM = Path("/usr/lib")  # JetPack's packages install it in python3.10/dist-packages here


@dataclass(frozen=True)
class Bindings:
    """A Python module of TensorRT, imported only when needed."""

    module: str
    title: str

    @property
    def rtx(self) -> bool:
        return self.module != "tensorrt"

    @property
    def installed(self) -> bool:
        spec = importlib.util.find_spec(self.module)
        return spec is not None and spec.origin is not None  # any folder of that name has a spec

    def load(self) -> Any:
        """Import the module; EngineError if it is broken or too old."""
        try:
            trt = importlib.import_module(self.module)
            version = str(trt.__version__)
        except Exception as error:  # a missing library raises various errors
            raise EngineError(f"{self.module} is installed but cannot be loaded: {error}") from None
        if not self.rtx and release(version) < OLDEST:
            raise EngineError(f"{self.title} {version} is too old: {'.'.join(map(str, OLDEST))} or later is needed")
        return trt


TENSORRT = Bindings("tensorrt", "TensorRT")
RTX = Bindings("tensorrt_rtx_bindings", "TensorRT-RTX")


def find_bindings() -> Bindings:
    for bindings in (TENSORRT, RTX):
        if bindings.installed:
            return bindings
    system = next(SYSTEM.glob("python3*/dist-packages/tensorrt"), None)
    if system:
        raise EngineError(f"TensorRT is in {system}, which this Python does not see: link it as docs/jetson.md shows")
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
