"""Shared by the readers of both formats: topics, descriptions of damage, and unpacking."""

from pathlib import Path
from typing import NamedTuple

import zstandard

from re2pix_node.errors import BagError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
TRUNCATED = "is truncated"
DAMAGED = "is damaged"

# Far above the size of one message or chunk, and small enough to be safe: a few crafted bytes could otherwise unpack
# to more than the memory.
LARGEST = 1 << 30


class Topic(NamedTuple):
    """A topic's name and the full name of its type."""

    name: str
    type: str


def first_bytes(path: Path) -> bytes:
    """The first bytes, which show the format."""
    try:
        with path.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise BagError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error


def unpack_file(path: Path, target: Path) -> None:
    """Unpack the undamaged part of a file that was compressed as a whole."""
    try:
        with path.open("rb") as packed, target.open("wb") as unpacked:
            zstandard.ZstdDecompressor().copy_stream(packed, unpacked)
    except zstandard.ZstdError:
        pass  # the reader of the file reports the missing part
    except OSError as error:
        problem = f"{path}: cannot be unpacked into {target.parent} ({error.strerror})"
        raise BagError(f"{problem}: set TMPDIR to a folder with more space") from error


def unpack_zstd(data: bytes, largest: int = LARGEST) -> bytes:
    """The unpacked content. The frame must state a plausible size: a frame of a few bytes can claim any size."""
    if zstandard.frame_content_size(data) > LARGEST:
        raise zstandard.ZstdError("implausibly large")
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=largest)
