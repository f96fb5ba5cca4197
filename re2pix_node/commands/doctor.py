"""`re2pix doctor`: lists what this machine can run, what is missing, and the command that adds it.

Standard library only, and only modules of ours that need no more: it must run where everything else is missing.
"""

import argparse
import json
import os
import platform
import shlex
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

from re2pix_node.common import subprocess_python
from re2pix_node.common.cpu import cpu_model, cpuinfo
from re2pix_node.engines import registry

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "ros2_ws/install/setup.bash"  # in a checkout, after make
HERE = shlex.quote(str(ROOT))
COLUMNS = 100
PROBE_SECONDS = 60.0  # imports from a cold or busy disk take long
SHARED_MEMORY_NEEDED = 256 << 20  # some segments of 64 MiB, one to a process, as in config/fastdds.xml
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "i8mm")
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"


class State(Enum):
    OK = "ok"
    MISSING = "missing"  # the node cannot start without it
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    topic: str
    state: State
    found: str
    mend: str = ""  # a command that fixes it, if there is one


@dataclass(frozen=True)
class Outcome:
    """The result of a probe, or the reason why there is none."""

    found: str = ""
    fault: str = ""
    absent: str = ""  # the missing module, if that is the fault


Outcomes = dict[str, Outcome]


def _message(package: str, name: str) -> str:
    # A message is a Python class and a compiled half, which is loaded at its first use.
    return (
        f"from {package}.msg import {name} as message\nmessage.__class__.__import_type_support__()\n"
        "if message._TYPE_SUPPORT is None: raise ImportError('its compiled half cannot be loaded')\nfound = 'loads'"
    )


PROBES = {
    "rclpy": """from importlib.metadata import PackageNotFoundError, version
from rclpy.utilities import get_rmw_implementation_identifier as rmw
def version_of(name):
    try: return version(name)
    except PackageNotFoundError: return ""
found = f"{version_of('ros-rclpy') or version_of('rclpy')} over {rmw()}" """,
    "re2pix_msgs": _message("re2pix_msgs", "Forecast"),
    "sensor_msgs": _message("sensor_msgs", "Image"),
    "diagnostic_msgs": _message("diagnostic_msgs", "DiagnosticArray"),
    "numpy": "import numpy\nfound = numpy.__version__",
    "cv2": "import cv2\nfound = cv2.__version__",
    "yaml": "import yaml\nfound = yaml.__version__",
    "cv_bridge": "import cv_bridge\nfound = 'loads'",
    "vision_msgs": _message("vision_msgs", "LabelInfo"),
    # Importing torch would take seconds and say no more.
    "torch": "import importlib.metadata\nfound = importlib.metadata.version('torch')",
    "GPU": """import ctypes
try: cuda = ctypes.CDLL("libcuda.so.1")
except OSError: raise OSError("no NVIDIA driver (libcuda.so.1)")
def ask(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code: raise OSError(f"there is an NVIDIA driver, but {name} fails with {code}")
ask("cuInit", 0)
version, name = ctypes.c_int(), ctypes.create_string_buffer(128)
ask("cuDriverGetVersion", ctypes.byref(version))
ask("cuDeviceGetName", name, 128, 0)
found = f"{name.value.decode()}, driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}" """,
}

# A probe runs in its own process, because an import may end the process. It imports from the same folders as this one.
# Its last line is the outcome; the lines before it come from the modules.
_CHILD = """
import json, os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
code, sys.path = json.loads(sys.argv[1])
names, outcome = {}, {}
try:
    exec(code, names)
    outcome["found"] = str(names["found"])
except ModuleNotFoundError as error:
    outcome["fault"], outcome["absent"] = str(error), error.name or ""
except BaseException as error:
    outcome["fault"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(outcome), flush=True)
os._exit(0)
"""


def _probe(code: str) -> Outcome:
    command = subprocess_python.code(_CHILD, json.dumps([code, subprocess_python.folders()]))
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS)
        return Outcome(**json.loads(ended.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return Outcome(fault=f"loading it takes more than {PROBE_SECONDS:.0f} s")
    except OSError as error:
        return Outcome(fault=f"no process for it could be started: {error}")
    except (IndexError, TypeError, ValueError):  # it ended before it printed its outcome
        how = f"code {ended.returncode}" if ended.returncode >= 0 else signal.strsignal(-ended.returncode)
        return Outcome(fault=f"loading it ends the process ({how}) {ended.stderr.decode(errors='replace')[-300:]}")


def _checkout(otherwise: str) -> str:
    """The command that activates the checkout's environment in this shell, if this file is in a checkout."""
    if not (ROOT / "scripts/env.sh").is_file():
        return otherwise
    if not BUILT.is_file():
        return f"make -C {HERE} demo"
    if sys.prefix == str(ROOT / ".venv") and str(BUILT.parent / "re2pix_msgs") in os.environ.get(
        "AMENT_PREFIX_PATH", ""
    ):
        return f"rm -r {HERE}/.venv && make -C {HERE} demo"  # the environment is active, but something in it is broken
    return f". {HERE}/scripts/env.sh"


def _mend_ros(package: str) -> str:
    if package == "re2pix_msgs":
        return _checkout("colcon build --packages-up-to re2pix_node && . install/setup.bash")
    if distro := os.environ.get("ROS_DISTRO"):
        return f"sudo apt install ros-{distro}-{package.replace('_', '-')}"
    distributions = sorted(Path("/opt/ros").glob("*/setup.bash"))
    return f". {distributions[-1]}" if distributions and not BUILT.is_file() else _checkout("")


def _mend_python(package: str, outcome: Outcome, apt: str = "") -> str:
    install = f"pip install {'' if outcome.absent else '--force-reinstall '}{package}"
    if sys.prefix != sys.base_prefix:
        return install
    return _checkout(f"sudo apt install {apt}" if apt else f"python3 -m {install}")


def _finding(topic: str, outcome: Outcome, faulty: State, mend: str, purpose: str = "") -> Finding:
    if not outcome.fault:
        return Finding(topic, State.OK, outcome.found)
    if outcome.absent.partition(".")[0] == topic:
        return Finding(topic, faulty, f"not installed{purpose and ': '}{purpose}", mend)
    return Finding(topic, State.WARNING if faulty is State.INFO else faulty, f"broken: {outcome.fault}", mend)


def _check_ros(outcomes: Outcomes) -> Iterator[Finding]:
    rclpy, distro, variables = outcomes["rclpy"], os.environ.get("ROS_DISTRO"), os.environ
    yield Finding(
        "ROS 2", State.INFO, f"{distro} is sourced" if distro else "no distribution is sourced, pip's is used"
    )
    other_rmw = rclpy.fault and not rclpy.absent and "RMW_IMPLEMENTATION" in variables
    yield _finding("rclpy", rclpy, State.MISSING, "unset RMW_IMPLEMENTATION" if other_rmw else _mend_ros("rclpy"))
    for package in ("re2pix_msgs", "sensor_msgs", "diagnostic_msgs"):
        yield _finding(package, outcomes[package], State.MISSING, _mend_ros(package))
    reach = variables.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or "SUBNET"
    yield Finding("discovery", State.INFO, f"domain {variables.get('ROS_DOMAIN_ID') or 0}, range {reach}")
    if "rmw_fastrtps" in rclpy.found:
        yield _fast_dds_profile(variables.get(PROFILE, ""))


def _fast_dds_profile(path: str) -> Finding:
    if path and Path(path).is_file():
        return Finding("Fast DDS profile", State.OK, path)
    found = (
        f"{PROFILE} {f'names {path}, which is not there' if path else 'is not set'}: most camera images will be lost"
    )
    # In a checkout, or installed: <prefix>/lib/pythonX/site-packages/re2pix_node beside <prefix>/share.
    places = (ROOT / "config/fastdds.xml", *(up / "share/re2pix_node/config/fastdds.xml" for up in ROOT.parents[:3]))
    profile = next((place for place in places if place.is_file()), "")
    mend = f"export {PROFILE}={shlex.quote(str(profile))}" if profile else ""
    return Finding("Fast DDS profile", State.WARNING, found, mend)


def _check_modules(outcomes: Outcomes) -> Iterator[Finding]:
    for module, package in (("numpy", "numpy"), ("cv2", "opencv-python-headless"), ("yaml", "pyyaml")):
        mend = _mend_python(package, outcomes[module], apt=f"python3-{module}".replace("cv2", "opencv"))
        yield _finding(module, outcomes[module], State.MISSING, mend)
    gpu = outcomes["GPU"]
    *others, reference = registry.entries()
    # One engine is enough to start.
    alone = all(outcomes[entry.name].fault for entry in others if not entry.on_gpu)
    outcome = outcomes[reference.name]
    faulty = State.MISSING if alone else State.WARNING
    yield _finding(reference.name, outcome, faulty, _mend_python(reference.name, outcome))
    for entry in reversed(others):
        yield _check_engine(entry, outcomes[entry.name], gpu, reference.name)
    yield Finding("GPU", State.INFO, gpu.found or f"none usable: {gpu.fault.removeprefix('OSError: ')}")
    for package in ("cv_bridge", "vision_msgs"):
        mend = _mend_ros(package) if os.environ.get("ROS_DISTRO") else ""
        yield _finding(package, outcomes[package], State.INFO, mend, "optional, part of a ROS 2 distribution")
    yield _finding("torch", outcomes["torch"], State.INFO, "pip install torch", "only export and training need it")


def _check_engine(entry: registry.EngineEntry, outcome: Outcome, gpu: Outcome, reference: str) -> Finding:
    if entry.on_gpu and gpu.fault:
        mend = ""
    elif entry.arm_package and platform.machine() == "aarch64":
        mend = f"sudo apt install {entry.arm_package}"
    else:
        mend = _mend_python(entry.name, outcome)
        mend += f"  # or tell the node engine:={reference}" if outcome.fault and not outcome.absent else ""
    return _finding(entry.name, outcome, State.INFO, mend, entry.purpose)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_machine(_: Outcomes) -> Iterator[Finding]:
    fits = (3, 10) <= sys.version_info[:2] <= (3, 13)
    found = f"{platform.python_version()} ({sys.executable}){'' if fits else ': 3.10 to 3.13 is needed'}"
    mend = "" if fits else f"make -C {HERE} demo PYTHON=python3.12"
    yield Finding("Python", State.OK if fits else State.MISSING, found, mend)
    features = " ".join(feature for feature in CPU_FEATURES if feature in cpuinfo("flags", "Features").split())
    yield Finding("CPU", State.INFO, f"{cpu_model()}, {_cores()} cores usable; {features or 'old: no vector units'}")
    yield Finding("system", State.INFO, f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.machine()}")
    memory = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(memory[field]) / 2**20 for field in ("MemTotal:", "MemAvailable:"))
    yield Finding("memory", State.INFO, f"{total:.1f} GiB, {available:.1f} available")


def _check_shared_memory(_: Outcomes) -> Iterator[Finding]:
    shared = shutil.disk_usage("/dev/shm")
    found = f"/dev/shm: {shared.total >> 20} MiB, {shared.free >> 20} free"
    if shared.free >= SHARED_MEMORY_NEEDED:
        yield Finding("shared memory", State.OK, found)
        return
    mend = "docker run --shm-size=1g ..." if Path("/.dockerenv").exists() else "sudo mount -o remount,size=1g /dev/shm"
    full = shared.total >= SHARED_MEMORY_NEEDED
    yield Finding("shared memory", State.WARNING, f"{found}: images may be lost", "fastdds shm clean" if full else mend)


def _guarded(check: Callable[[Outcomes], Iterator[Finding]], outcomes: Outcomes) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(check(outcomes))
    except Exception as error:  # an unexpected fault of one probe must not stop the report
        topic = check.__name__.removeprefix("_check_").replace("_", " ")
        findings.append(Finding(topic, State.WARNING, f"the check failed: {error!r}"))
    return findings


def run_doctor() -> list[Finding]:
    probes = PROBES | {entry.name: entry.probe_code for entry in registry.entries()}
    with ThreadPoolExecutor(max(2, _cores())) as pool:
        outcomes = dict(zip(probes, pool.map(_probe, probes.values()), strict=True))
    checks = (_check_machine, _check_shared_memory, _check_ros, _check_modules)
    return [finding for check in checks for finding in _guarded(check, outcomes)]


def could_start(findings: list[Finding]) -> bool:
    return all(finding.state is not State.MISSING for finding in findings)


def print_report(findings: list[Finding]) -> None:
    indent = " " * 26
    for finding in findings:
        start = f"{finding.state.value:<8}{finding.topic:<18}"
        wrap = textwrap.TextWrapper(COLUMNS, start, indent, break_long_words=False, break_on_hyphens=False)
        print(wrap.fill(finding.found))
        if finding.mend:
            print(f"{indent}> {finding.mend}")  # on one line of any length, so that it can be copied
    missing = [finding.topic for finding in findings if finding.state is State.MISSING]
    print(f"The node cannot start: {', '.join(missing)}." if missing else "The node can start.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no arguments."""


def run(_: argparse.Namespace | None = None) -> int:
    findings = run_doctor()
    print_report(findings)
    return 0 if could_start(findings) else 2


if __name__ == "__main__":
    sys.exit(run())
