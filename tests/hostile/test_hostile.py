"""The harness of attacks finds what does not hold, and a few hundred attacks hold."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from re2pix_node.errors import BundleError, Re2pixError
from tests.hostile import harness
from tests.hostile.__main__ import KINDS, run
from tests.hostile.harness import Kind, run_case


class UnprintableError(Re2pixError):
    """An error that skips what makes messages printable."""

    def __str__(self) -> str:
        return self.given

    def __init__(self, given: str) -> None:
        self.given = given


def nothing(rng: np.random.Generator, folder: Path) -> Path:
    return folder


def verdict_of(read, make=nothing) -> str:
    return run_case(Kind("made up", make, read), 0, 0).fault


def raises(error: BaseException):
    def read(_: Path) -> None:
        raise error

    return read


def test_a_reader_holds_if_it_reads_or_refuses_in_a_line() -> None:
    assert verdict_of(lambda _: None) == ""
    assert verdict_of(raises(BundleError("x: is damaged: copy it again"))) == ""


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (raises(KeyError("features")), "KeyError: 'features' (test_hostile.py, line "),
        (raises(MemoryError()), "MemoryError"),
        (raises(UnprintableError("two\nlines")), "the message is no line: 'two\\nlines'"),
        (raises(UnprintableError("red \x1b[31m")), "the message is no line"),
        (lambda _: os.kill(os.getpid(), signal.SIGSEGV), "ended by SIGSEGV"),
        (lambda _: np.ones(600 << 20, np.uint8), "took "),
        (lambda path: (path / "big").write_bytes(bytes(300 << 20)), "OSError"),
    ],
    ids=["error", "memory error", "two lines", "escapes", "crash", "memory", "disk"],
)
def test_what_does_not_hold_is_found(read, fault: str) -> None:
    assert verdict_of(read).startswith(fault)


def test_one_that_never_ends_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "PATIENCE", 1)
    assert verdict_of(lambda _: time.sleep(60)) == "ended by SIGKILL"


def test_a_case_that_cannot_be_made_does_not_hold() -> None:
    assert "the case itself failed" in verdict_of(lambda _: None, make=lambda rng, folder: folder / 0)


@pytest.mark.parametrize("kind", ["bundle", "proof", "recording", "checkpoint", "message"])
def test_the_same_seed_makes_the_same_file(kind: str, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = KINDS[kind].make(np.random.default_rng((3, 4)), tmp_path / name)
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        made.append([file.read_bytes() for file in files if file.suffix != ".db3" and file.is_file()])
    assert made[0] == made[1]


@pytest.mark.long
def test_hundreds_of_attacks_hold() -> None:
    faults = []
    assert run(range(300), 1, tell=lambda verdict: faults.append(str(verdict)) if verdict.fault else None) == 300, (
        faults
    )
