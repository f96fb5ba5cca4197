"""Describes this machine, as far as it explains its speed."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from re2pix_node import __version__
from re2pix_node.common.cpu import cpu_model
from re2pix_node.engines.tensorrt.cuda import find_device
from re2pix_node.errors import EngineError

JETPACK = Path("/etc/nv_tegra_release")  # "# R36 (release), REVISION: 4.0, ..."
BOARD = Path("/proc/device-tree/model")  # "NVIDIA Jetson AGX Orin Developer Kit", with a zero at the end


def describe_machine() -> dict[str, object]:
    """Plain values for JSON; None for anything that this machine does not have."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu(),
        "board": _text(BOARD),
        "jetpack": _text(JETPACK),
        "power_mode": _power_mode(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "re2pix_node": __version__,
    }


def _gpu() -> dict[str, str] | None:
    try:
        device = find_device()
    except EngineError:
        return None
    return {"name": device.name, "capability": device.capability, "driver": device.driver}


def _text(path: Path) -> str | None:
    """The first line of a file."""
    try:
        return path.read_text(errors="replace").partition("\n")[0].strip("\0 #")
    except OSError:
        return None


def _power_mode() -> str | None:
    """The power mode of a Jetson: "NV Power Mode: MAXN, 0"."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return None
    try:
        told = subprocess.run([tool, "-q"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ", ".join(line.strip() for line in told.stdout.splitlines() if line.strip()) or None
