"""The records of the MCAP format, as far as a reader of messages needs them. Every length in them is distrusted.

The package `mcap` trusts lengths and counts, and turns whole chunks and indexes into objects.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import lz4.frame  # type: ignore[import-untyped]

from re2pix_node.common.limits import CHUNK_RECORDS, MESSAGE_BYTES
from re2pix_node.recordings.storage import unpack_zstd

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, STATISTICS, DATA_END = 2, 3, 4, 5, 6, 11, 15
FOOTER_BYTES = 9 + 20 + len(MAGIC)  # of the footer and what follows it
_DESCRIPTION_MAX = 1 << 24  # bytes of a schema, a channel or the statistics
_NAME_MAX = 4096  # bytes of a topic or of a type


class Record(NamedTuple):
    opcode: int
    content: bytes


class Message(NamedTuple):
    channel: int
    log_time: int
    data: bytes


class Statistics(NamedTuple):
    channels: int  # how many there are
    counts: dict[int, int]  # messages by channel


class TooManyError(ValueError):
    """A limit was reached; the message says which."""


def records(stream: BinaryIO, size: int, wanted: frozenset[int]) -> Iterator[Record]:
    """The wanted records from here to `size`, which is the end of the stream; others are skipped.

    EOFError if the stream ends within one, ValueError if there cannot be such a record.
    """
    at = stream.tell()
    while at < size:
        head = stream.read(9)
        if len(head) < 9:
            raise EOFError
        opcode, length = struct.unpack("<BQ", head)
        at += 9 + length
        # A power failure can leave zeros at the end of a file.
        if opcode == 0 or length > MESSAGE_BYTES.value:
            raise ValueError("no record")
        if at > size:
            raise EOFError
        if opcode in wanted:
            if opcode not in (MESSAGE, CHUNK) and length > _DESCRIPTION_MAX:
                raise ValueError("a description that is too long")
            yield Record(opcode, stream.read(length))
        else:
            stream.seek(at)


def records_in(chunk: bytes, wanted: frozenset[int]) -> Iterator[Record]:
    """The wanted records of a chunk, one by one: as objects, the tiny messages of one chunk could fill the memory."""
    data = _unpacked(chunk)
    at = read = 0
    while at < len(data):
        read += 1
        if read > CHUNK_RECORDS.value:
            raise TooManyError(f"has a chunk of too many records, {CHUNK_RECORDS}")
        opcode, length = struct.unpack_from("<BQ", data, at)
        end = at + 9 + length
        if end > len(data):
            raise ValueError("a record that is longer than its chunk")
        if opcode in wanted:
            yield Record(opcode, data[at + 9 : end])
        at = end


def message(content: bytes) -> Message:
    channel, _, log_time, _ = struct.unpack_from("<HIQQ", content)
    return Message(channel, log_time, content[22:])


def schema(content: bytes) -> tuple[int, str]:
    """Id and name."""
    return struct.unpack_from("<H", content)[0], _text(content, 2)[0]


def channel(content: bytes) -> tuple[int, int, str]:
    """Id, id of the schema, and topic."""
    number, schema_number = struct.unpack_from("<HH", content)
    return number, schema_number, _text(content, 4)[0]


def statistics(content: bytes) -> Statistics:
    _, _, channels, _, _, _, _, _, length = struct.unpack_from("<QHIIIIQQI", content)
    counts = content[46 : 46 + length]
    return Statistics(channels, dict(struct.iter_unpack("<HQ", counts)))


def summary_start(footer: bytes) -> int:
    """The position of the summary; 0 if there is none."""
    return int(struct.unpack_from("<Q", footer)[0])


def _text(content: bytes, at: int, longest: int = _NAME_MAX) -> tuple[str, int]:
    """A text and the position after it."""
    (length,) = struct.unpack_from("<I", content, at)
    if length > min(longest, len(content) - at - 4):
        raise ValueError("a name that is too long")
    return content[at + 4 : at + 4 + length].decode("utf-8"), at + 4 + length


def _unpacked(chunk: bytes) -> bytes:
    """The unpacked and checked content of a chunk."""
    _, _, size, checksum = struct.unpack_from("<QQQI", chunk)
    compression, at = _text(chunk, 28)
    (length,) = struct.unpack_from("<Q", chunk, at)
    data = chunk[at + 8 : at + 8 + length]
    if size > MESSAGE_BYTES.value or len(data) < length:
        raise ValueError("implausibly large")
    if compression == "zstd":
        data = unpack_zstd(data, size)
    elif compression == "lz4":
        data = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
    elif compression:
        raise ValueError("an unknown compression")
    if len(data) != size or (checksum and zlib.crc32(data) != checksum):
        raise ValueError("not the content that it should have")
    return data
