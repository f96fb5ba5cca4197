import os
import signal

import pytest

from re2pix_node.common.child_process import ChildProcess, call
from re2pix_node.errors import BagError, Re2pixError


def test_a_function_runs_elsewhere() -> None:
    assert call(identity, 3, "words") == (3, "words")
    assert call(os.getpid) != os.getpid()


def identity(*arguments: object) -> object:
    return arguments


def test_errors_come_back() -> None:
    with pytest.raises(BagError, match="this bag is not one"):
        call(refuse, "this bag is not one")
    with pytest.raises(RuntimeError, match="ZeroDivisionError: "):
        call(divmod, 1, 0)


def refuse(why: str) -> None:
    raise BagError(why)


def test_a_process_that_dies_is_said() -> None:
    with pytest.raises(Re2pixError, match="a process for die was ended by SIGKILL"):
        call(die)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_it_ends_when_its_pipe_is_closed() -> None:
    child = ChildProcess(__name__, "echo", "first")
    assert child.pipe.recv() == "first"
    child.pipe.send("second")
    assert child.pipe.recv() == "second"
    child.close(20)
    assert child.how_it_ended() == "ended with code 0"


def echo(pipe, first: str) -> None:
    pipe.send(first)
    while True:
        pipe.send(pipe.recv())
