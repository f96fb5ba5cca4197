"""Our modules as processes run the installed code, and no code from the working directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.common import subprocess_python
from tests.support.processes import wait_until_ended

OTHERS = ("cv2", "numpy", "onnxruntime", "openvino", "rclpy", "re2pix_node", "sensor_msgs", "torch", "tqdm", "yaml")
CV_BRIDGE = """
from re2pix_node.imaging import decode
bridge = decode._cv_bridge()
print("the bridge was tried" if bridge else "it was not")
"""
BENCH = """
from pathlib import Path
from re2pix_node.bench.measure import works_of
from re2pix_node.bench.worker import BenchTask, Worker
from re2pix_node.bundle.reader import read_bundle
worker = Worker(BenchTask(Path(sys.argv[1]), "onnxruntime", "fp32", 1))
worker.turn()
worker.close()
print(*works_of(read_bundle(Path(sys.argv[1]))))
"""


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder with a file for each module of Python and for some others; if it is imported, it says so in `caught`."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in (*sys.stdlib_module_names, *OTHERS):
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'caught')!r}, 'a').write('{name} ')\nraise SystemExit(99)"
        )
    return folder


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["doctor"], 0, "The node can start."), (["doctor", "--nonsense"], 2, "unrecognized arguments: --nonsense")],
)
def test_commands_run_nothing_that_lies_in_the_working_directory(
    trap: Path, words: list[str], code: int, said: str
) -> None:
    done = run(trap, subprocess_python.command("re2pix_node.cli", *words))
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr


def test_measuring_engines_runs_nothing_that_lies_in_the_working_directory(trap: Path, tiny: Bundle) -> None:
    done = run(trap, subprocess_python.code(BENCH, str(tiny.path)))
    assert done.stdout == "encode forecast\n", done.stderr


def test_the_node_runs_nothing_that_lies_in_the_working_directory(trap: Path) -> None:
    done = run(trap, subprocess_python.command("re2pix_node.ros.node", "--ros-args", "-p", "nonsense"))
    assert done.returncode == 2, done.stderr
    assert "nonsense" in done.stderr


def test_the_trial_of_cv_bridge_runs_nothing_that_lies_in_the_working_directory(trap: Path, tmp_path: Path) -> None:
    code = "class CvBridge:\n    def imgmsg_to_cv2(self, message, encoding): return [[0]]"
    (tmp_path / "cv_bridge.py").write_text(code)
    assert run(trap, subprocess_python.code(CV_BRIDGE), tmp_path).stdout == "the bridge was tried\n"


def run(trap: Path, command: list[str], *folders: Path) -> "subprocess.CompletedProcess[str]":
    environment = subprocess_python.environment()
    path = os.pathsep.join([*map(str, folders), environment["PYTHONPATH"]])
    del environment["PYTHONSAFEPATH"]  # Python 3.10 does not know it
    done = subprocess.run(
        command, cwd=trap, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120
    )
    assert not (trap.parent / "caught").exists(), (trap.parent / "caught").read_text()
    return done


def test_a_working_directory_that_python_put_on_the_path_is_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", *sys.path])
    assert str(tmp_path) not in paths()
    monkeypatch.setenv("PYTHONPATH", f"/nowhere{os.pathsep}{tmp_path}")  # it was asked for
    assert str(tmp_path) in paths()
    monkeypatch.setenv("PYTHONPATH", f"/nowhere{os.pathsep}")
    assert str(tmp_path) not in paths()
    tmp_path.rmdir()
    assert paths()


def paths() -> list[str]:
    return subprocess_python.environment()["PYTHONPATH"].split(os.pathsep)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("import time\ndef main(): print('here', flush=True); time.sleep(600)")
    code = """
import os, signal, subprocess
from re2pix_node.common import subprocess_python
command = subprocess_python.command("sleeper", ends_with=signal.SIGTERM)
child = subprocess.Popen(command, env=subprocess_python.environment(), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = subprocess_python.environment()
    environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    done = subprocess.run(subprocess_python.code(code), env=environment, stdout=subprocess.PIPE, text=True)
    assert wait_until_ended(int(done.stdout))
