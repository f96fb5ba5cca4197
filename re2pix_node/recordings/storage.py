"""Shared by the readers of both formats: topics, descriptions of damage, and unpacking."""

import errno
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import zstandard

from re2pix_node.common.files import open_regular
from re2pix_node.common.limits import MESSAGE_BYTES, UNPACKED_BYTES
from re2pix_node.errors import BagError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
TRUNCATED = "is truncated"
DAMAGED = "is damaged"

_PIECE = 1 << 22  # bytes that are unpacked at a time
_SPARE = 1 << 29  # bytes of the disk that unpacking leaves free


class Topic(NamedTuple):
    """A topic's name and the full name of its type."""

    name: str
    type: str


def first_bytes(path: Path) -> bytes:
    """The first bytes, which show the format."""
    try:
        with open_regular(path) as stream:
            return stream.read(16)
    except OSError as error:
        raise BagError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error


def unpack_file(path: Path, target: Path) -> None:
    """Unpack the undamaged part of a file that was compressed as a whole; BagError if it is larger than the limit."""
    try:
        with open_regular(path) as packed, target.open("wb") as unpacked:
            for piece in zstandard.ZstdDecompressor().read_to_iter(packed, write_size=_PIECE):
                if unpacked.tell() + len(piece) > UNPACKED_BYTES.value:
                    raise BagError(f"{path}: unpacks to too much, {UNPACKED_BYTES}")
                if shutil.disk_usage(target.parent).free < len(piece) + _SPARE:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                unpacked.write(piece)
    except zstandard.ZstdError:
        pass  # the reader of the file reports the missing part
    except OSError as error:
        problem = f"{path}: cannot be unpacked into {target.parent} ({error.strerror})"
        raise BagError(f"{problem}: set TMPDIR to a folder with more space") from error


def unpack_zstd(data: bytes, largest: int | None = None) -> bytes:
    """The unpacked content. The frame must state a plausible size: a frame of a few bytes can claim any size."""
    if zstandard.frame_content_size(data) > MESSAGE_BYTES.value:
        raise zstandard.ZstdError("implausibly large")
    most = MESSAGE_BYTES.value if largest is None else largest
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=most)
