"""Our modules as processes run the installed code, and no code from the working directory."""

import subprocess
from pathlib import Path

import pytest

from re2pix_node.common import subprocess_python


@pytest.mark.parametrize(
    ("module", "words", "code", "said"),
    [
        ("re2pix_node.cli", ["doctor", "--nonsense"], 2, "unrecognized arguments: --nonsense"),
        ("re2pix_node.ros.node", ["--ros-args", "-p", "nonsense"], 2, "nonsense"),
    ],
)
def test_it_runs_nothing_that_lies_in_the_working_directory(
    tmp_path: Path, module: str, words: list[str], code: int, said: str
) -> None:
    for name in ("argparse", "logging", "numpy", "signal", "yaml"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(99)")
    command, environment = subprocess_python.command(module, *words), subprocess_python.environment()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
