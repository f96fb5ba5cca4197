"""scripts/: what is missing is named, all at once, with the command that adds it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALWAYS_THERE = ("bash", "cat", "cut", "dirname", "env", "sha256sum", "uname", "make", "git", "g++", "sed", "grep", "rm")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what set-up needs, so that no test can touch the checkout it runs in."""
    copy = tmp_path / "checkout"
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, copy / name)
    return copy


def set_up(checkout: Path, without: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    tools = checkout.parent / "bin"
    tools.mkdir()
    for name in set(ALWAYS_THERE) - set(without):
        (tools / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    environment = {"PATH": str(tools), "PYTHON": sys.executable, **environment}
    command = ["bash", str(checkout / "scripts/setup.sh"), "demo"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def refusal(done: subprocess.CompletedProcess[str], checkout: Path) -> str:
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: ")
    assert not (checkout / ".venv").exists()
    return line


def test_all_missing_tools_are_named_at_once(checkout: Path) -> None:
    line = refusal(set_up(checkout, without=("g++", "git")), checkout)
    assert line == "setup: missing: a C++ compiler, git: sudo apt install g++ git"


def test_a_missing_python_is_named_with_its_packages(checkout: Path) -> None:
    line = refusal(set_up(checkout, PYTHON="python3.12345"), checkout)
    assert line == "setup: missing: python3.12345: sudo apt install python3 python3-venv python3-dev"


def python_that(checkout: Path, prelude: str) -> str:
    """An interpreter like this one, but for what `prelude` changes before it runs its code."""
    fake = checkout.parent / "python"
    fake.write_text(
        f'#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit\nexec {sys.executable} -c "{prelude}\n$2"\n'
    )
    fake.chmod(0o755)
    return str(fake)


def test_a_python_too_old_is_named(checkout: Path) -> None:
    old = python_that(checkout, "import sys; sys.version_info = (3, 9, 2)")
    line = refusal(set_up(checkout, PYTHON=old), checkout)
    assert (
        line
        == "setup: Python 3.9.2 is not supported, 3.10 to 3.13 are: name another, as in make demo PYTHON=python3.12"
    )


def test_missing_venv_and_headers_are_named_as_debian_packages(checkout: Path) -> None:
    bare = python_that(
        checkout,
        "import sys, sysconfig; sys.base_prefix = '/usr'; sys.version_info = (3, 11, 2); "
        "sys.modules['ensurepip'] = None; sysconfig.get_path = lambda name: '/nowhere'",
    )
    line = refusal(set_up(checkout, PYTHON=bare), checkout)
    assert line.endswith(": sudo apt install python3.11-venv python3.11-dev")


def test_env_says_when_nothing_is_built(checkout: Path) -> None:
    command = f". {checkout}/scripts/env.sh; echo code $?"
    done = subprocess.run(["bash", "-c", command], env=dict(os.environ), capture_output=True, text=True)
    assert done.stdout == "code 2\n"
    assert done.stderr == "env.sh: not built yet: run make demo or make test first\n"
