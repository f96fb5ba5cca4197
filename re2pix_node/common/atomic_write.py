"""Write outputs beside their final place and rename them when they are complete, so that none is ever half-written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from re2pix_node.errors import Re2pixError


def require_place(path: Path, replace: bool = True, error: type[Re2pixError] = Re2pixError) -> None:
    """Refuse a place where nothing can be written: call it before the work whose result goes there."""
    try:
        if path.exists() and not replace:
            raise error(f"{path}: exists already: choose another name, or replace it with --force")
        if not path.absolute().parent.is_dir():
            raise error(f"{path}: the folder {path.parent} does not exist: create it first")
        partial = _partial(path)
        partial.touch()
        partial.unlink()
    except OSError as fault:
        raise error(f"{path}: cannot be written ({fault.strerror}): choose another place") from None
    except ValueError:
        raise error(f"{path}: is not a name of a file: choose another place") from None


def _partial(path: Path) -> Path:
    # Keep the suffix: some writers choose the format by it.
    return path.with_name(f".partial-{os.getpid()}-{path.name}")


@contextmanager
def write_beside(path: Path, replace: bool = False, error: type[Re2pixError] = Re2pixError) -> Iterator[Path]:
    """Give a temporary path for a file or a folder; it replaces `path` if the block ends without an error.

    If the block fails, the temporary path is removed and `path` stays unchanged.
    """
    require_place(path, replace, error)
    partial = _partial(path)
    try:
        yield partial
        _take_place(partial, path)
    finally:
        remove(partial)


def _take_place(partial: Path, path: Path) -> None:
    # A folder cannot be renamed over another one: move the old one away first.
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
