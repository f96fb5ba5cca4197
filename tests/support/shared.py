"""What is costly to make is made once, for all worker processes of one `pytest -n`."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name` that `make` fills. The first process to ask makes it, others wait for it.

    Tests only read it: who wants to change something makes a copy.
    """
    base = factory.getbasetemp()
    # Workers have their own folders side by side.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            folder.mkdir()
            try:
                make(folder)
            except BaseException:  # of the next process to ask as well: it says why for itself
                shutil.rmtree(folder)
                raise
            done.touch()
    return folder
