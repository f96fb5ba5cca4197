"""`re2pix doctor`: what this machine can run, what is missing, and the command that adds it.

Standard library only, and nothing of ours is imported: this runs where everything else is missing.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 100
PROBE_SECONDS = 20.0
SHARED_MEMORY_NEEDED = 256 << 20  # some segments of 64 MiB, one to a process, as in config/fastdds.xml
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "i8mm")


class State(Enum):
    OK = "ok"
    MISSING = "missing"  # the node cannot start
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    topic: str
    state: State
    found: str
    mend: str = ""  # a command, where one helps


@dataclass(frozen=True)
class Outcome:
    """Of a probe: what it found, or why it found nothing."""

    found: str = ""
    fault: str = ""
    absent: str = ""  # the module that is not installed, where that is the fault


Outcomes = dict[str, Outcome]


def _message(package: str, name: str) -> str:
    # The Python class is only half of a message; the compiled half is loaded at its first use.
    return (
        f"from {package}.msg import {name} as message\nmessage.__class__.__import_type_support__()\n"
        "if message._TYPE_SUPPORT is None: raise ImportError('its compiled part cannot be loaded')\nfound = 'loads'"
    )


PROBES = {
    "rclpy": "from rclpy.utilities import get_rmw_implementation_identifier as rmw\nfound = rmw()",
    "re2pix_msgs": _message("re2pix_msgs", "Forecast"),
    "sensor_msgs": _message("sensor_msgs", "Image"),
    "diagnostic_msgs": _message("diagnostic_msgs", "DiagnosticArray"),
    "openvino": """import openvino
core = openvino.Core()
bf16 = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "no bf16"
found = f"{openvino.__version__.split('-')[0]} on {', '.join(core.available_devices)}; {bf16} on the CPU" """,
    "onnxruntime": """import onnxruntime
found = f"{onnxruntime.__version__} with {', '.join(onnxruntime.get_available_providers())}" """,
    # The import and no more: trt.Runtime ends the process where there is no driver.
    "tensorrt": "import tensorrt\nfound = tensorrt.__version__",
    "numpy": "import numpy\nfound = numpy.__version__",
    "cv2": "import cv2\nfound = cv2.__version__",
    "yaml": "import yaml\nfound = yaml.__version__",
    "cv_bridge": "import cv_bridge\nfound = 'loads'",
    "vision_msgs": _message("vision_msgs", "LabelInfo"),
    "GPU": """import ctypes
try: cuda = ctypes.CDLL("libcuda.so.1")
except OSError: raise SystemExit("none: no NVIDIA driver (libcuda.so.1)")
def ask(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code: raise SystemExit(f"none: there is an NVIDIA driver, but {name} fails with {code}")
ask("cuInit", 0)
version, name = ctypes.c_int(), ctypes.create_string_buffer(128)
ask("cuDriverGetVersion", ctypes.byref(version))
ask("cuDeviceGetName", name, 128, 0)
found = f"{name.value.decode()}, driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}" """,
}

# A probe runs in a process of its own, because an import may end the process. It sees the modules that this one would
# see. Its last line is the outcome, whatever else the modules print.
_CHILD = """
import json, os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
code, sys.path = json.loads(sys.argv[1])
names, outcome = {}, {}
try:
    exec(code, names)
    outcome["found"] = str(names["found"])
except ModuleNotFoundError as error:
    outcome["fault"], outcome["absent"] = str(error), error.name
except SystemExit as error:
    outcome["fault"] = str(error)
except BaseException as error:
    outcome["fault"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(outcome), flush=True)
os._exit(0)
"""


def _probe(code: str) -> Outcome:
    command = [sys.executable, "-c", _CHILD, json.dumps([code, sys.path])]
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Outcome(fault=f"loading it takes more than {PROBE_SECONDS:.0f} s")
    if ended.returncode == 0:
        return Outcome(**json.loads(ended.stdout.splitlines()[-1]))
    how = f"code {ended.returncode}" if ended.returncode > 0 else str(signal.strsignal(-ended.returncode))
    return Outcome(fault=f"loading it ends the process ({how}) {ended.stderr[-300:]}")


# Mends: the command that fits this machine.


def _in_venv() -> bool:
    return sys.prefix != sys.base_prefix


def _mend_checkout() -> str:
    at_root = Path.cwd() == ROOT
    make = "make" if at_root else f"make -C {ROOT}"
    if not (ROOT / "ros2_ws/install/setup.bash").is_file():
        return f"{make} demo"
    if _in_venv() and f"{ROOT}/ros2_ws/install" in os.environ.get("AMENT_PREFIX_PATH", ""):
        return f"{make} clean demo"  # all of it is here, and yet it does not work
    return ". scripts/env.sh" if at_root else f". {ROOT}/scripts/env.sh"


def _mend_ros(package: str) -> str:
    distro = os.environ.get("ROS_DISTRO")
    if distro and package != "re2pix_msgs":
        return f"sudo apt install ros-{distro}-{package.replace('_', '-')}"
    installed = sorted(Path("/opt/ros").glob("*/setup.bash"))
    if installed and not distro:
        return f". {installed[-1]}"
    if (ROOT / "scripts/env.sh").is_file():
        return _mend_checkout()
    return "colcon build --packages-up-to re2pix_node && . install/setup.bash"


def _mend_python(package: str, outcome: Outcome) -> str:
    if not _in_venv() and (ROOT / "scripts/env.sh").is_file():
        return _mend_checkout()
    return f"{'' if _in_venv() else 'python3 -m '}pip install {'' if outcome.absent else '--force-reinstall '}{package}"


# Checks.


def _fault(outcome: Outcome, module: str) -> str:
    absent = outcome.absent.partition(".")[0] == module
    return "not installed" if absent else f"broken: {' '.join(outcome.fault.split())}"


def _check_system(_: Outcomes) -> Iterator[Finding]:
    found = f"{platform.python_version()} ({sys.executable})"
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        yield Finding("Python", State.OK, found)
    else:
        yield Finding("Python", State.MISSING, f"{found}, needs 3.10 to 3.13", "make clean demo PYTHON=python3.12")
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    yield Finding("system", State.INFO, f"{name} on {platform.machine()}")


def _check_ros(outcomes: Outcomes) -> Iterator[Finding]:
    rclpy = outcomes["rclpy"]
    distro = os.environ.get("ROS_DISTRO")
    if rclpy.fault:
        chosen = os.environ.get("RMW_IMPLEMENTATION")
        mend = "unset RMW_IMPLEMENTATION" if chosen and not rclpy.absent else _mend_ros("rclpy")
        yield Finding("ROS 2", State.MISSING, f"rclpy is {_fault(rclpy, 'rclpy')}", mend)
    else:
        source = f"{distro}, sourced" if distro else "from PyPI wheels"
        yield Finding("ROS 2", State.OK, f"rclpy {_version('ros-rclpy', 'rclpy')}, {source}")
        yield Finding("RMW", State.OK, rclpy.found)
    for package in ("re2pix_msgs", "sensor_msgs", "diagnostic_msgs"):
        outcome = outcomes[package]
        if outcome.fault:
            yield Finding(package, State.MISSING, _fault(outcome, package), _mend_ros(package))
        else:
            yield Finding(package, State.OK, outcome.found)
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or "SUBNET"
    yield Finding("discovery", State.INFO, f"ROS_DOMAIN_ID {domain}, ROS_AUTOMATIC_DISCOVERY_RANGE {reach}")
    if rclpy.found.startswith("rmw_fastrtps"):
        yield _fast_dds_profile()


def _version(*packages: str) -> str:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _fast_dds_profile() -> Finding:
    variable = "FASTRTPS_DEFAULT_PROFILES_FILE"
    path = os.environ.get(variable, "")
    if path and Path(path).is_file():
        return Finding("Fast DDS profile", State.OK, path)
    found = f"{variable} names {path}, which is not there" if path else f"{variable} is not set"
    ours = next(iter([*ROOT.glob("config/fastdds.xml"), *ROOT.parents[1].glob("share/re2pix_node/config/fastdds.xml")]), "")
    return Finding("Fast DDS profile", State.WARNING, f"{found}: most camera images will be lost", f"export {variable}={ours}")


def _check_python_modules(outcomes: Outcomes) -> Iterator[Finding]:
    for module, package in {"numpy": "numpy", "cv2": "opencv-python-headless", "yaml": "pyyaml"}.items():
        outcome = outcomes[module]
        if outcome.fault:
            yield Finding(module, State.MISSING, _fault(outcome, module), _mend_python(package, outcome))
        else:
            yield Finding(module, State.OK, outcome.found)
