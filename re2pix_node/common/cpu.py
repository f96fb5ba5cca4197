"""The processor of this machine, from Linux. Standard library only, because re2pix doctor needs it."""

import platform
from pathlib import Path


def cpuinfo(*fields: str) -> str:
    """The value of the first of these fields that /proc/cpuinfo has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return next((values[field] for field in fields if field in values), "")


def cpu_model() -> str:
    return cpuinfo("model name", "Model", "Hardware") or platform.processor() or platform.machine()
