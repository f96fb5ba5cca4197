"""Reads MCAP files from start to end, up to where they are damaged.

The readers of rosbags and mcap start at the index, which is at the end, where a truncated file does not have it. This
reader treats whole and damaged files alike: it returns everything undamaged, and `damage` then says what was lost.
"""

import io
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from mcap.exceptions import McapError
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, DataEnd, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from re2pix_node.recordings.storage import DAMAGED, LARGEST, TRUNCATED, Topic, unpack_zstd

MCAP_MAGIC = b"\x89MCAP0\r\n"

# mcap does not check its input, so damage appears as any error of parsing or unpacking (lz4: RuntimeError).
_DAMAGE_SHOWS_AS = (
    McapError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    OverflowError,
    struct.error,
    zstandard.ZstdError,
)


class McapFile:
    """One .mcap file."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.damage: str | None = None
        self._path = path
        self._channels: dict[int, Topic] = {}

    def topics(self) -> Counter[Topic]:
        """The topics and their numbers of messages; only those of the undamaged part if `damage` is set afterwards."""
        try:
            return self._topics_in_summary()
        except (*_DAMAGE_SHOWS_AS, LookupError):
            return self._topics_in_records()

    def messages(self, topic: Topic) -> Iterator[tuple[int, bytes]]:
        """Log time and serialized data of each message."""
        for message in self._all_messages():
            if self._channels.get(message.channel_id) == topic:
                yield message.log_time, message.data

    def _topics_in_summary(self) -> Counter[Topic]:
        with _BoundedFile(self._path) as stream:
            summary = SeekingReader(stream, record_size_limit=None).get_summary()
        if summary is None or summary.statistics is None or len(summary.channels) < summary.statistics.channel_count:
            raise LookupError("the summary does not tell")
        topics: Counter[Topic] = Counter()
        for number, channel in summary.channels.items():
            schema = summary.schemas[channel.schema_id].name if channel.schema_id else ""
            self._channels[number] = Topic(channel.topic, schema)
            topics[self._channels[number]] += summary.statistics.channel_message_counts.get(number, 0)
        return topics

    def _topics_in_records(self) -> Counter[Topic]:
        messages = Counter(message.channel_id for message in self._all_messages())
        topics: Counter[Topic] = Counter()
        for number, topic in self._channels.items():
            topics[topic] += messages[number]
        return topics

    def _all_messages(self) -> Iterator[Message]:
        schemas: dict[int, str] = {}
        with _BoundedFile(self._path) as stream:
            for record in self._records(stream):
                if isinstance(record, Schema):
                    schemas[record.id] = record.name
                elif isinstance(record, Channel):
                    self._channels[record.id] = Topic(record.topic, schemas.get(record.schema_id, ""))
                elif isinstance(record, Message):
                    yield record

    def _records(self, stream: "_BoundedFile") -> Iterator[McapRecord]:
        records = _Records(stream, emit_chunks=True, record_size_limit=None).records
        while True:
            try:
                record = next(records, None)
            except EOFError:
                self.damage = TRUNCATED
                return
            except _DAMAGE_SHOWS_AS:
                self.damage = DAMAGED
                return
            if record is None or isinstance(record, DataEnd):
                return
            if isinstance(record, Chunk):
                yield from self._records_in(record)
            else:
                yield record

    def _records_in(self, chunk: Chunk) -> list[McapRecord]:
        try:
            return breakup_chunk(_unpacked(chunk), validate_crc=True)
        except _DAMAGE_SHOWS_AS:
            self.damage = DAMAGED
            return []


class _Records(StreamReader):
    """Stops at zeros, which a power failure can leave at the end of a file; mcap would skip over them."""

    def _read_record(self, opcode: int, length: int) -> McapRecord | None:
        if opcode == 0:
            raise ValueError("no record")
        return super()._read_record(opcode, length)


class _BoundedFile(io.BufferedReader):
    """Refuses reads beyond the file: mcap trusts every length in it, and returns a cut message as if it were whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= LARGEST:
            raise ValueError("implausible length")
        if size > self._size - self.tell():
            raise EOFError
        return super().read(size)


def _unpacked(chunk: Chunk) -> Chunk:
    """The unpacked chunk, with a limit; mcap would unpack it to any size."""
    size = chunk.uncompressed_size
    if size > LARGEST:
        raise ValueError("implausibly large")
    data = chunk.data
    if chunk.compression == "zstd":
        data = unpack_zstd(data, size)
    elif chunk.compression == "lz4":
        data = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
    if len(data) != size:
        raise ValueError("not of the size it should have")
    return replace(chunk, compression="", data=data)
