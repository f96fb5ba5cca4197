"""The one reader of files from elsewhere: regular files only, and never more than a limit allows."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from re2pix_node.common.limits import Limit


class RefusedFileError(OSError):
    """A file that is not read; `strerror` says why, as for every OSError."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(errno.EINVAL, why, str(path))


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read. A pipe, a device, or a link to one raises RefusedFileError: it could block or never end."""
    # Non-blocking, because opening a pipe waits for a writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise RefusedFileError(path, "not a regular file, but a pipe, a socket or a device")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: Path, limit: Limit) -> bytes:
    """The bytes of a regular file; RefusedFileError if there are more than the limit, which the message names."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_size(path, size, limit)
        data = file.read(limit.value + 1)
        check_size(path, len(data), limit)  # it may have grown, or be one of /proc, without a size
        return data


def read_text(path: Path, limit: Limit) -> str:
    """The text of a regular file in UTF-8; UnicodeDecodeError if it is another encoding."""
    return read_file(path, limit).decode("utf-8")


def check_size(path: Path, size: int, limit: Limit) -> None:
    if size > limit.value:
        raise RefusedFileError(path, f"{limit.amount(size)} large, {limit}")
