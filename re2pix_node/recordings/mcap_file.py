"""Reads MCAP files from start to end, up to where they are damaged.

The readers of rosbags and mcap start at the index, which is at the end, where a truncated file does not have it. This
reader treats whole and damaged files alike: it returns everything undamaged, and `damage` then says what was lost.
"""

import os
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import zstandard

from re2pix_node.common.files import open_regular
from re2pix_node.common.limits import BAG_TOPICS
from re2pix_node.recordings import mcap_records as mcap
from re2pix_node.recordings.mcap_records import MAGIC, Message, Record, TooManyError
from re2pix_node.recordings.storage import DAMAGED, TRUNCATED, Topic

MCAP_MAGIC = MAGIC

# Damage appears as an error of parsing or unpacking (lz4: RuntimeError).
_DAMAGE_SHOWS_AS = (EOFError, OSError, ValueError, RuntimeError, OverflowError, struct.error, zstandard.ZstdError)
_IN_DATA = frozenset({mcap.SCHEMA, mcap.CHANNEL, mcap.MESSAGE, mcap.CHUNK, mcap.DATA_END, mcap.FOOTER})
_IN_CHUNK = frozenset({mcap.SCHEMA, mcap.CHANNEL, mcap.MESSAGE})
_IN_SUMMARY = frozenset({mcap.SCHEMA, mcap.CHANNEL, mcap.STATISTICS, mcap.FOOTER})


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
            if self._channels.get(message.channel) == topic:
                yield message.log_time, message.data

    def _topics_in_summary(self) -> Counter[Topic]:
        channels: dict[int, Topic] = {}
        schemas: dict[int, str] = {}
        told = None
        with open_regular(self._path) as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(size - mcap.FOOTER_BYTES)
            (footer,) = mcap.records(stream, size - len(MAGIC), frozenset({mcap.FOOTER}))
            stream.seek(mcap.summary_start(footer.content) or size)
            for record in mcap.records(stream, size - len(MAGIC), _IN_SUMMARY):
                if record.opcode == mcap.STATISTICS:
                    told = mcap.statistics(record.content)
                else:
                    _describe(record, channels, schemas)
        # Some writers leave the schemas out of the summary.
        if told is None or len(channels) < told.channels or not all(topic.type for topic in channels.values()):
            raise LookupError("the summary does not tell")
        topics: Counter[Topic] = Counter()
        for number, topic in channels.items():
            topics[topic] += told.counts.get(number, 0)
        self._channels = channels
        return topics

    def _topics_in_records(self) -> Counter[Topic]:
        messages = Counter(message.channel for message in self._all_messages())
        topics: Counter[Topic] = Counter()
        for number, topic in self._channels.items():
            topics[topic] += messages[number]
        return topics

    def _all_messages(self) -> Iterator[Message]:
        schemas: dict[int, str] = {}
        try:
            for record in self._records():
                if record.opcode == mcap.MESSAGE:
                    yield mcap.message(record.content)
                else:
                    _describe(record, self._channels, schemas)
        except EOFError:
            self.damage = TRUNCATED
        except TooManyError as error:
            self.damage = str(error)
        except _DAMAGE_SHOWS_AS:
            self.damage = DAMAGED

    def _records(self) -> Iterator[Record]:
        with open_regular(self._path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if stream.read(len(MAGIC)) != MAGIC:
                raise ValueError("no MCAP")
            for record in mcap.records(stream, size, _IN_DATA):
                if record.opcode in (mcap.DATA_END, mcap.FOOTER):
                    return
                if record.opcode == mcap.CHUNK:
                    yield from self._records_in(record.content)
                else:
                    yield record
            raise EOFError  # without the record at the end of the data

    def _records_in(self, chunk: bytes) -> Iterator[Record]:
        """Damage inside a chunk costs only the rest of this chunk."""
        try:
            yield from mcap.records_in(chunk, _IN_CHUNK)
        except TooManyError as error:
            self.damage = str(error)
        except _DAMAGE_SHOWS_AS:
            self.damage = DAMAGED


def _describe(record: Record, channels: dict[int, Topic], schemas: dict[int, str]) -> None:
    """Note a schema or a channel."""
    if record.opcode == mcap.SCHEMA:
        number, name = mcap.schema(record.content)
        schemas[number] = name
    elif record.opcode == mcap.CHANNEL:
        number, kind, topic = mcap.channel(record.content)
        if number not in channels and len(channels) >= BAG_TOPICS.value:
            raise TooManyError(f"has too many topics, {BAG_TOPICS}")
        channels[number] = Topic(topic, schemas.get(kind, ""))
