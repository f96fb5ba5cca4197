"""The list of engines. To add one: a file or folder that defines a RUNTIME, and a line here.

Names, help texts, the node's parameter, docs/parameters.md and `re2pix doctor` follow from this. Standard library only:
doctor reads it where nothing else is installed.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from re2pix_node.engines import probes

if TYPE_CHECKING:
    from re2pix_node.engines.base import Runtime


@dataclass(frozen=True)
class EngineEntry:
    """One engine."""

    name: str  # for users; also the name of the pip package
    module: str  # the module with its RUNTIME
    purpose: str  # its purpose in a few words
    probe: str = ""  # a probe of `probes`; empty: import the module called `name`
    arm_package: str = ""  # apt package, in place of pip's on ARM
    on_gpu: bool = False

    @property
    def probe_code(self) -> str:
        return self.probe or probes.plain(self.name)


_HERE = "re2pix_node.engines"
# `auto` tries them in this order, the fastest first. The order is fixed, not timed at start-up: two runs on one machine
# must choose the same engine, or a replay would not repeat. The last is the reference, which every machine has.
_ENTRIES: list[EngineEntry] = [
    EngineEntry(
        "tensorrt", f"{_HERE}.tensorrt.engine", "for NVIDIA GPUs", probes.TENSORRT, "python3-libnvinfer", on_gpu=True
    ),
    EngineEntry("openvino", f"{_HERE}.openvino", "the fastest engine on most CPUs", probes.OPENVINO),
    EngineEntry("onnxruntime", f"{_HERE}.onnxruntime", "the reference, on every CPU", probes.ONNXRUNTIME),
]
PRECISIONS = ("auto", "fp16", "bf16", "fp32")


def register(entry: EngineEntry) -> None:
    """Add an engine from outside this package; `auto` tries it first."""
    if entry.name in engine_names():
        raise ValueError(f"there is an engine '{entry.name}' already")
    _ENTRIES.insert(0, entry)


def entries() -> tuple[EngineEntry, ...]:
    return tuple(_ENTRIES)


def engine_names() -> tuple[str, ...]:
    """The names that a user may give."""
    return ("auto", *(entry.name for entry in _ENTRIES))


def runtimes() -> "tuple[Runtime, ...]":
    return tuple(importlib.import_module(entry.module).RUNTIME for entry in _ENTRIES)
