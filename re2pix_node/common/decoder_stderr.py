"""Keeps what image libraries print out of the way: libjpeg and libpng write a line to stderr for each damaged image."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from re2pix_node.common.quiet import Quiet

_OF_A_DECODER = re.compile(r"libpng|JPEG|JFIF|Huffman|marker|progression|quantization|DCT|scan line", re.IGNORECASE)
_LOCK = threading.Lock()  # stderr belongs to the whole process
_quiet = Quiet()


@contextmanager
def decoders_quiet() -> Iterator[None]:
    """In this block lines of image libraries come once in ten seconds; those of other threads all come, afterwards."""
    with _LOCK, ExitStack() as stack:
        with suppress(OSError):  # there is no stderr, or no descriptor is left: then nothing is held back
            kept, held = os.dup(2), _held()
            stack.callback(os.close, kept)
            os.dup2(held, 2)
            stack.callback(_pass_on, held)
            stack.callback(os.dup2, kept, 2)
        yield


@contextmanager
def stderr_in_place() -> Iterator[None]:
    """In this block stderr is the real one: processes are started here that inherit it."""
    with _LOCK:
        yield


_file: list[int] = []


def _held() -> int:
    if not _file:
        _file.append(os.memfd_create("re2pix stderr"))
    return _file[0]


def _pass_on(held: int) -> None:
    size = os.lseek(held, 0, os.SEEK_CUR)  # the descriptors share their place
    if not size:
        return
    text = os.pread(held, size, 0)
    os.lseek(held, 0, os.SEEK_SET)
    os.ftruncate(held, 0)
    for line in text.splitlines(keepends=True):
        if not (_OF_A_DECODER.search(line.decode(errors="replace")) and _quiet("decoder")):
            os.write(2, line)


def _forget() -> None:
    """A forked process must not share the place in the file with its parent."""
    _file.clear()


if sys.platform == "linux":
    os.register_at_fork(after_in_child=_forget)
