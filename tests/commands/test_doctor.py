import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from re2pix_node.commands import doctor
from re2pix_node.commands.doctor import Finding, Outcome, State
from re2pix_node.common.cpu import cpu_model
from re2pix_node.engines import registry

ROOT = Path(__file__).resolve().parents[2]
BARE = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from re2pix_node.commands.doctor import run; sys.exit(run())"
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def run_doctor(changes=None, without=(), python=(sys.executable, "-m", "re2pix_node.commands.doctor"), cwd=ROOT):
    """The doctor as a user runs it, in this environment with changes: exit code, report by topic, last line."""
    env = {name: value for name, value in (os.environ | (changes or {})).items() if name not in without}
    done = subprocess.run(python, env=env, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return report_of(done.returncode, done.stdout)


def report_of(code, said):
    *lines, last = said.splitlines()
    rows, topic = {}, ""
    for line in lines:
        if line.startswith(" "):
            # A fix has its own line; other lines continue the line above.
            rows[topic] += ("\n" if line.strip().startswith("> ") else " ") + line.strip()
        else:
            state, topic = line[:8].strip(), line[8:26].strip()
            rows[topic] = f"{state} {line[26:]}"
    return SimpleNamespace(code=code, rows=rows, last=last, lines=lines)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Put a module of our own before all others."""
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, code: (tmp_path / f"{name}.py").write_text(code)


@pytest.fixture
def quick_doctor(monkeypatch, capsys):
    """The doctor in this process. Only the probes that a test names are made; the others find what they look for."""

    def run(*real):
        probe = doctor._probe
        codes = doctor.PROBES | {entry.name: entry.probe_code for entry in registry.entries()}
        wanted = {codes[name] for name in real}
        monkeypatch.setattr(doctor, "_probe", lambda code: probe(code) if code in wanted else Outcome("loads"))
        code = doctor.run()
        return report_of(code, capsys.readouterr().out)

    return run


@pytest.fixture(scope="module")
def here():
    return run_doctor({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp", PROFILE: str(ROOT / "config/fastdds.xml")})


def test_the_node_can_start_where_its_tests_run(here):
    assert (here.code, here.last) == (0, "The node can start.")
    assert not [line for line in here.lines if line.startswith("missing")]


def test_the_report_names_the_engines_the_rmw_and_the_machine(here):
    for package in ("onnxruntime", "openvino"):
        assert here.rows[package].startswith(f"ok {importlib.metadata.version(package).split('-')[0]}")
    assert "CPUExecutionProvider" in here.rows["onnxruntime"]
    assert "native bf16 on the CPU" in here.rows["openvino"]
    assert here.rows["rclpy"].startswith("ok ")
    assert here.rows["rclpy"].endswith(" over rmw_fastrtps_cpp")
    assert here.rows["re2pix_msgs"] == "ok loads"
    assert f"{len(os.sched_getaffinity(0))} cores usable" in here.rows["CPU"]
    assert here.rows["Fast DDS profile"] == f"ok {ROOT / 'config/fastdds.xml'}"


def test_the_report_fits_a_terminal(here):
    assert max(len(line) for line in here.lines if "> " not in line) <= 100
    assert {line[:8].strip() for line in here.lines} <= {"", *(state.value for state in State)}


def test_a_python_with_nothing_installed_gets_a_full_report():
    bare = run_doctor(python=(sys.executable, "-I", "-S", "-c", BARE), cwd="/")
    assert bare.code == 2
    needed = ["rclpy", "re2pix_msgs", "sensor_msgs", "diagnostic_msgs", "numpy", "cv2", "yaml", "onnxruntime"]
    assert bare.last == f"The node cannot start: {', '.join(needed)}."
    for topic in needed:
        assert bare.rows[topic].startswith("missing not installed\n> ")
    assert "memory" in bare.rows


def test_without_the_workspace_it_says_how_to_source_it(tmp_path):
    def apart(variable):
        return ":".join(path for path in os.environ.get(variable, "").split(":") if "re2pix_msgs" not in path)

    changes = {name: apart(name) for name in ("AMENT_PREFIX_PATH", "LD_LIBRARY_PATH")}
    changes["PYTHONPATH"] = f"{ROOT}:{apart('PYTHONPATH')}"
    alone = run_doctor(changes, without=["ROS_DISTRO"], cwd=tmp_path)
    assert (alone.code, alone.last) == (2, "The node cannot start: re2pix_msgs.")
    assert alone.rows["rclpy"].startswith("ok ")
    assert alone.rows["re2pix_msgs"] == f"missing not installed\n> . {ROOT}/scripts/env.sh"


@pytest.mark.parametrize(
    ("path", "said"), [("", "is not set"), ("/nowhere/fastdds.xml", "names /nowhere/fastdds.xml, which is not there")]
)
def test_without_the_fast_dds_profile_there_is_a_warning(quick_doctor, monkeypatch, path, said):
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    monkeypatch.delenv(PROFILE, raising=False)
    if path:
        monkeypatch.setenv(PROFILE, path)
    report = quick_doctor("rclpy")
    row = report.rows["Fast DDS profile"]
    assert row.startswith(f"warning {PROFILE} {said}: most camera images will be lost")
    assert row.endswith(f"> export {PROFILE}={ROOT / 'config/fastdds.xml'}")
    assert report.code == 0


def test_a_rmw_that_is_not_there_is_named(quick_doctor, monkeypatch):
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_bogus_cpp")
    report = quick_doctor("rclpy")
    assert report.code == 2
    assert report.rows["rclpy"].startswith("missing broken: ")
    assert "rmw_bogus_cpp" in report.rows["rclpy"]
    assert report.rows["rclpy"].endswith("> unset RMW_IMPLEMENTATION")


def test_a_module_that_crashes_is_reported_and_costs_nothing_else(quick_doctor, module, tmp_path, monkeypatch, here):
    module("openvino", "import os\nos.abort()")
    here_it_runs = tmp_path / "here"
    here_it_runs.mkdir()
    monkeypatch.chdir(here_it_runs)
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    report = quick_doctor("rclpy", "openvino", "onnxruntime")
    assert report.rows["openvino"].startswith("warning broken: loading it ends the process (Aborted)")
    assert report.rows["openvino"].endswith("# or tell the node engine:=onnxruntime")
    assert (report.code, report.last) == (0, "The node can start.")
    assert report.rows.keys() == here.rows.keys()
    assert report.rows["onnxruntime"] == here.rows["onnxruntime"]
    assert not list(here_it_runs.iterdir())  # no core file


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise OSError('libtbb is gone')", "OSError: libtbb is gone"),
        ("import not_there", "No module named 'not_there'"),
        ("import sys\nsys.exit()", "SystemExit:"),
        ("import os\nos._exit(0)", "loading it ends the process (code 0)"),
        ("import os\nprint('[]')\nos._exit(3)", "loading it ends the process (code 3)"),
    ],
)
def test_every_way_to_fail_is_told(code, said):
    assert doctor._probe(code).fault.startswith(said)


def test_without_any_engine_the_node_cannot_start(quick_doctor, module):
    for name in ("onnxruntime", "openvino"):
        module(name, "raise OSError('libtbb is gone')")
    report = quick_doctor("onnxruntime", "openvino")
    assert report.rows["onnxruntime"].startswith("missing broken: OSError: libtbb is gone")
    assert (report.code, report.last) == (2, "The node cannot start: onnxruntime.")


def test_what_modules_print_is_no_outcome(module):
    module("cv_bridge", "print('{}')\nprint('noise', end='')")
    assert doctor._probe(doctor.PROBES["cv_bridge"]) == Outcome("loads")


def test_a_module_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 1.0)
    assert doctor._probe("import time\ntime.sleep(60)").fault == "loading it takes more than 1 s"


@pytest.mark.skipif(not shutil.which("g++"), reason="builds a driver with g++")
@pytest.mark.parametrize(
    ("code", "row"),
    [
        (0, "info Made-up GPU, driver for CUDA 12.4"),
        (100, "info none usable: there is an NVIDIA driver, but cuInit fails with 100"),
    ],
)
def test_the_gpu_is_asked_through_its_driver(quick_doctor, module, tmp_path, monkeypatch, code, row):
    source = tmp_path / "cuda.cpp"
    source.write_text(f"""#include <cstring>
extern "C" int cuInit(unsigned) {{ return {code}; }}
extern "C" int cuDriverGetVersion(int* version) {{ *version = 12040; return 0; }}
extern "C" int cuDeviceGetName(char* name, int size, int) {{ strncpy(name, "Made-up GPU", size); return 0; }}
""")
    subprocess.run(["g++", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source], check=True)
    for name in ("tensorrt", "tensorrt_rtx_bindings"):
        module(name, f"raise ModuleNotFoundError('No module named {name}', name='{name}')")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}:{os.environ.get('LD_LIBRARY_PATH', '')}")
    report = quick_doctor("GPU", "tensorrt")
    assert report.rows["GPU"] == row
    assert ("> pip install tensorrt" in report.rows["tensorrt"]) == (code == 0)


@pytest.mark.parametrize(
    ("total", "free", "state", "mend"),
    [(1 << 30, 1 << 28, State.OK, ""), (64 << 20, 64 << 20, State.WARNING, "1g"), (1 << 30, 1, State.WARNING, "clean")],
)
def test_small_or_full_shared_memory_is_a_warning(monkeypatch, total, free, state, mend):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=total, free=free))
    [finding] = doctor._check_shared_memory({})
    assert finding.state is state
    assert mend in finding.mend
    assert bool(finding.mend) == (state is State.WARNING)


def test_a_machine_without_proc_still_gets_a_report(monkeypatch):
    def unreadable(*_, **__):
        raise PermissionError("no")

    monkeypatch.setattr(Path, "read_text", unreadable)
    monkeypatch.setattr(doctor, "_probe", lambda code: Outcome("loads"))
    topics = {finding.topic: finding for finding in doctor.run_doctor()}
    assert "PermissionError" in topics["machine"].found
    assert {"Python", "CPU", "rclpy", "onnxruntime"} <= topics.keys()
    assert cpu_model() != ""


def test_only_what_is_missing_keeps_the_node_from_starting(capsys):
    findings = [Finding("a", State.OK, "1"), Finding("b", State.WARNING, "2", "mend b"), Finding("c", State.INFO, "3")]
    assert doctor.could_start(findings)
    missing = [*findings, Finding("d", State.MISSING, "4", "mend d")]
    assert not doctor.could_start(missing)
    doctor.print_report(missing)
    assert capsys.readouterr().out.splitlines() == [
        f"ok      a{' ' * 17}1",
        f"warning b{' ' * 17}2",
        f"{' ' * 26}> mend b",
        f"info    c{' ' * 17}3",
        f"missing d{' ' * 17}4",
        f"{' ' * 26}> mend d",
        "The node cannot start: d.",
    ]
