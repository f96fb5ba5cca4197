"""`re2pix doctor`: what this machine can run, what is missing, and the command that adds it.

Standard library only, and nothing of ours is imported: this runs where everything else is missing, even as a plain
`python3 re2pix_node/doctor.py` before the first `make`.
"""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 100
PROBE_SECONDS = 20.0
# Fast DDS keeps the segments of every process there: 64 MiB each with our profile.
SHARED_MEMORY_NEEDED = 256 << 20
FEATURES = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "i8mm"]


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
    """What came of a probe: `found` when it worked, else why not."""

    found: str = ""
    fault: str = ""
    absent: str = ""  # the module that is not installed

    @property
    def works(self) -> bool:
        return not self.fault


Outcomes = dict[str, Outcome]


def _load_messages(module: str, message: str) -> str:
    # The Python class is only half of a message: the compiled half is loaded at its first use.
    return (
        f"from {module} import {message} as message\nmessage.__class__.__import_type_support__()\n"
        "if message._TYPE_SUPPORT is None: raise ImportError('its compiled part cannot be loaded')\nfound = 'loads'"
    )


PROBES = {
    "rclpy": "from rclpy.utilities import get_rmw_implementation_identifier as rmw\nfound = rmw()",
    "re2pix_msgs": _load_messages("re2pix_msgs.msg", "Forecast"),
    "sensor_msgs": _load_messages("sensor_msgs.msg", "Image"),
    "diagnostic_msgs": _load_messages("diagnostic_msgs.msg", "DiagnosticArray"),
    "openvino": """import openvino
core = openvino.Core()
bf16 = "native bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "no native bf16"
found = f"{openvino.__version__.split('-')[0]}: {', '.join(core.available_devices)}; the CPU has {bf16}" """,
    "onnxruntime": """import onnxruntime
found = f"{onnxruntime.__version__}: {', '.join(onnxruntime.get_available_providers())}" """,
    # The import alone: trt.Runtime ends the process where there is no driver.
    "tensorrt": "import tensorrt\nfound = tensorrt.__version__",
    "numpy": "import numpy\nfound = numpy.__version__",
    "cv2": "import cv2\nfound = cv2.__version__",
    "yaml": "import yaml\nfound = yaml.__version__",
    "cv_bridge": "import cv_bridge\nfound = 'loads'",
    "vision_msgs": _load_messages("vision_msgs.msg", "LabelInfo"),
    "GPU": """import ctypes
try: cuda = ctypes.CDLL("libcuda.so.1")
except OSError: raise SystemExit("no NVIDIA driver (libcuda.so.1)")
def ask(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code: raise SystemExit(f"an NVIDIA driver, but no usable GPU ({name} returned {code})")
ask("cuInit", 0)
version, name = ctypes.c_int(), ctypes.create_string_buffer(128)
ask("cuDriverGetVersion", ctypes.byref(version))
ask("cuDeviceGetName", name, 128, 0)
found = f"{name.value.decode()}, driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}" """,
}

# Runs a probe in a process of its own, for an import may end the process. It sees the modules that this one sees; its
# last line is the outcome, whatever the modules print.
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
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PROBE_SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Outcome(fault=f"loading it took longer than {PROBE_SECONDS:.0f} s")
    except OSError as error:
        return Outcome(fault=str(error))
    if done.returncode < 0:
        return Outcome(fault=f"loading it ends the process: {signal.strsignal(-done.returncode)}")
    if done.returncode > 0:
        said = " ".join(done.stderr.split())
        return Outcome(fault=f"loading it ends the process with exit code {done.returncode}: {said}"[:400])
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def _probe_all() -> Outcomes:
    with ThreadPoolExecutor(max(2, _cores())) as pool:
        return dict(zip(PROBES, pool.map(_probe, PROBES.values()), strict=True))


# Mends: the one that fits this machine.


def _entered(file: str) -> str:
    return file if Path.cwd() == ROOT else f"{ROOT}/{file}"


def _mend_environment() -> str:
    """The command that brings ROS 2 and our messages into this shell."""
    if not (ROOT / "scripts/env.sh").is_file():  # installed, not a checkout
        return "colcon build --packages-up-to re2pix_node && . install/setup.bash"
    make = "make" if Path.cwd() == ROOT else f"make -C {ROOT}"
    if not (ROOT / "ros2_ws/install/setup.bash").is_file():
        return f"{make} demo"
    if str(ROOT / "ros2_ws/install") in os.environ.get("AMENT_PREFIX_PATH", "") and _in_venv():
        return f"{make} clean demo"  # all is in place, and yet broken
    return f". {_entered('scripts/env.sh')}"


def _mend_ros(package: str) -> str:
    distro = os.environ.get("ROS_DISTRO")
    if distro and package != "re2pix_msgs":
        return f"sudo apt install ros-{distro}-{package.replace('_', '-')}"
    installed = sorted(Path("/opt/ros").glob("*/setup.bash"))
    return f". {installed[-1]}" if installed and not distro else _mend_environment()


def _mend_python(package: str, apt: str, outcome: Outcome) -> str:
    if _in_venv():
        return f"pip install {'' if outcome.absent else '--force-reinstall '}{package}"
    if os.environ.get("ROS_DISTRO") and apt:
        return f"sudo apt install {apt}"
    return _mend_environment() if (ROOT / "scripts/env.sh").is_file() else f"python3 -m pip install {package}"


def _in_venv() -> bool:
    return sys.prefix != sys.base_prefix


# Checks: what was found, as lines of the report.


def _fault(outcome: Outcome, module: str) -> str:
    absent = outcome.absent.partition(".")[0] == module
    return "not installed" if absent else f"broken: {' '.join(outcome.fault.split())}"


def _check_system(outcomes: Outcomes) -> Iterator[Finding]:
    fits = (3, 10) <= sys.version_info[:2] <= (3, 13)
    found = f"{platform.python_version()} ({sys.executable})"
    mend = "" if fits else "make demo PYTHON=python3.12"
    yield Finding(
        "Python", State.OK if fits else State.MISSING, found if fits else f"{found}; needs 3.10 to 3.13", mend
    )
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    yield Finding("System", State.INFO, f"{name}, {platform.machine()}")
