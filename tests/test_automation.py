"""Files that other programs read: they parse, and name files and targets that exist."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(workflow: Path) -> list[tuple[str, dict[str, Any]]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [(name, step) for name, job in jobs.items() for step in job["steps"]]


def is_program(name: str) -> bool:
    return (ROOT / name).is_file() and os.access(ROOT / name, os.X_OK)


def test_every_job_runs_what_our_own_integration_runs() -> None:
    (workflow,) = WORKFLOWS
    found = steps(workflow)
    ended = {job: step.get("run", "") for job, step in found}  # the last step of each
    assert all(run.split()[-1] == ".ci/run" for run in ended.values()), ended
    assert is_program(".ci/run")


def test_continuous_integration_has_the_oldest_and_the_newest_python() -> None:
    script = (ROOT / "scripts/setup.sh").read_text()
    allowed = re.findall(r"\((\d), (\d+)\) <= sys.version_info\[:2\] <= \((\d), (\d+)\)", script)
    matrix = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"]["ros-from-pypi"]["strategy"]["matrix"]["include"]
    pythons = sorted((entry["python"].split(".") for entry in matrix), key=lambda python: int(python[1]))
    assert [(*pythons[0], *pythons[-1])] == allowed


def test_hooks_run_targets_of_the_makefile() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for repository in repositories:
        assert repository["repo"] == "local"  # nothing is downloaded
        for hook in repository["hooks"]:
            program, target = shlex.split(hook["entry"])
            assert program == "make"
            assert target in targets
            assert re.search(hook["files"], "re2pix_node/cli.py")


def test_the_container_is_set_up_by_our_script() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).is_file()
    assert is_program(shlex.split(container["postCreateCommand"])[0])


@pytest.mark.parametrize("file", [".devcontainer/Dockerfile", ".github/workflows/ci.yml"])
def test_containers_get_what_set_up_asks_for(file: str) -> None:
    words = set((ROOT / file).read_text().split())
    assert {"g++", "git", "make", "python3-dev", "python3-venv"} <= words
