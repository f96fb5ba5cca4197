"""Nothing half-written: outputs are made beside their place and renamed into it when they are whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from re2pix_node.errors import Re2pixError


@contextmanager
def write_beside(path: Path, replace: bool = False, error: type[Re2pixError] = Re2pixError) -> Iterator[Path]:
    """Gives a path beside `path` to write a file or a folder to; it takes the place of `path` if the block ends well.

    Whatever ends the block early, nothing is left behind and what was at `path` stays.
    """
    if path.exists() and not replace:
        raise error(f"{path}: exists already: choose another name, or replace it with --force")
    if not path.parent.is_dir():
        raise error(f"{path}: the folder {path.parent} does not exist: make it first")
    # The ending stays: some writers choose the format by it.
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        _take_place(partial, path)
    finally:
        remove(partial)


def _take_place(partial: Path, path: Path) -> None:
    # A folder cannot be renamed over another one: the old one steps aside first.
    old = path.with_name(f".old-{os.getpid()}-{path.name}")
    if path.is_dir():
        path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    remove(old)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
