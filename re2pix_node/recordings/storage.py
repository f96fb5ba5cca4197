"""What reading both formats of recordings shares: topics, words for damage, and unpacking."""

from pathlib import Path
from typing import NamedTuple

import zstandard

from re2pix_node.errors import BagError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
TRUNCATED = "is truncated"
DAMAGED = "is damaged"

# Far above what one message or chunk takes, and below what endangers a machine: a few crafted bytes can unpack to
# all of its memory.
LARGEST = 1 << 30


class Topic(NamedTuple):
    """A topic's name and the full name of its type."""

    name: str
    type: str


def first_bytes(path: Path) -> bytes:
    """What tells the format."""
    try:
        with path.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise BagError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error


def unpack_file(path: Path, target: Path) -> None:
    """Unpacks a file that was compressed as a whole, as far as it is whole."""
    try:
        with path.open("rb") as packed, target.open("wb") as unpacked:
            zstandard.ZstdDecompressor().copy_stream(packed, unpacked)
    except zstandard.ZstdError:
        pass  # what is missing shows when the file is read
    except OSError as error:
        problem = f"{path}: cannot be unpacked into {target.parent} ({error.strerror})"
        raise BagError(f"{problem}: set TMPDIR to a folder with more space") from error


def unpack_zstd(data: bytes, largest: int = LARGEST) -> bytes:
    """The content, which must be stated and sane: a frame of a few bytes can claim any size."""
    if zstandard.frame_content_size(data) > LARGEST:
        raise zstandard.ZstdError("implausibly large")
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=largest)
