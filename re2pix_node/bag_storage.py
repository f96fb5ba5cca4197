"""The files a recording is made of, MCAP and SQLite, read from front to back as far as they are whole.

The readers of rosbags and mcap start at the index, which a truncated file lacks: both formats have it at the end.
Here whole and damaged files go the same way: what is whole comes out, and `damage` says afterwards whether something
did not.
"""

import io
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import lz4.frame  # type: ignore[import-untyped]
import zstandard
from mcap.exceptions import McapError
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, DataEnd, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from re2pix_node.errors import BagError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MCAP_MAGIC = b"\x89MCAP0\r\n"
_SQLITE_MAGIC = b"SQLite format 3\0"
_ROS_1_MAGIC = b"#ROSBAG V"
_TRUNCATED = "is truncated"
_DAMAGED = "is damaged"

# Far above what one message or chunk takes, and below what endangers a machine: a few crafted bytes can unpack to
# all of its memory.
_LARGEST = 1 << 30

# mcap does not check what it reads, so damage shows as whatever parsing and unpacking run into (lz4: RuntimeError).
_MCAP_DAMAGE = (
    McapError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    OverflowError,
    MemoryError,
    struct.error,
    zstandard.ZstdError,
)
_SQLITE_DAMAGE = (apsw.Error, UnicodeDecodeError, MemoryError)


class Topic(NamedTuple):
    """A topic's name and the full name of its type."""

    name: str
    type: str


class McapFile:
    """One .mcap file."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.damage: str | None = None
        self._path = path
        self._channels: dict[int, Topic] = {}

    def topics(self) -> Counter[Topic]:
        """The topics and their numbers of messages; only those of the whole part if `damage` is set afterwards."""
        try:
            return self._topics_in_summary()
        except (*_MCAP_DAMAGE, LookupError):
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
        self.damage = None
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
        records = StreamReader(stream, emit_chunks=True, record_size_limit=None).records
        while True:
            try:
                record = next(records, None)
            except EOFError:
                self.damage = _TRUNCATED
                return
            except _MCAP_DAMAGE:
                self.damage = _DAMAGED
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
        except _MCAP_DAMAGE:
            self.damage = _DAMAGED
            return []


class _BoundedFile(io.BufferedReader):
    """Refuses reads that a length in the file asks for and that cannot be: mcap believes every length."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _LARGEST:
            raise ValueError("implausible length")
        if size > self._size - self.tell():
            raise EOFError
        return super().read(size)


class SqliteFile:
    """One .db3 file."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.damage: str | None = None
        self._path = path

    def topics(self) -> Counter[Topic]:
        """The topics and their numbers of messages; not all of them if `damage` is set afterwards."""
        self.damage = None
        rows: list[Any] = []
        counts: dict[Any, Any] = {}
        try:
            with closing(self._open()) as database:
                rows = list(database.execute("SELECT id, name, type FROM topics ORDER BY id"))
                counts = dict(database.execute("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"))
        except _SQLITE_DAMAGE as error:
            self.damage = self._kind_of_damage()
            if self.damage == _DAMAGED and isinstance(error, apsw.SQLError):
                self.damage = "holds no recording"
        topics: Counter[Topic] = Counter()
        for number, name, kind in rows:
            topics[Topic(name, kind)] += counts.get(number, 0)
        return topics

    def messages(self, topic: Topic) -> Iterator[tuple[int, bytes]]:
        """Log time and serialized data of each message."""
        self.damage = None
        # By id and not by time: the index over the times may be what is damaged.
        query = (
            "SELECT timestamp, data FROM messages "
            "WHERE topic_id IN (SELECT id FROM topics WHERE name = ? AND type = ?) ORDER BY messages.id"
        )
        try:
            with closing(self._open()) as database:
                for received, data in database.execute(query, topic):
                    if isinstance(received, int) and isinstance(data, bytes):
                        yield received, data
                    else:
                        self.damage = _DAMAGED
        except _SQLITE_DAMAGE:
            self.damage = self._kind_of_damage()

    def _open(self) -> apsw.Connection:
        # What a killed recorder had not moved into the file yet is in the log beside it.
        log = self._path.with_name(f"{self._path.name}-wal")
        has_log = log.is_file() and log.stat().st_size > 0
        truncated = not has_log and self._kind_of_damage() == _TRUNCATED
        database = apsw.Connection(
            f"{self._path.absolute().as_uri()}?{'mode=ro' if has_log else 'immutable=1'}",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            vfs=_WHOLE_PAGES.name if truncated else None,
        )
        # What sqlite.org advises for files that others made.
        database.execute("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")
        if truncated:
            # Makes SQLite open a file that has fewer pages than it says.
            database.execute("PRAGMA writable_schema = ON")
        return database

    def _kind_of_damage(self) -> str:
        with self._path.open("rb") as stream:
            header = stream.read(100)
        expected_size = max(100, _page_size(header) * int.from_bytes(header[28:32], "big"))
        return _TRUNCATED if self._path.stat().st_size < expected_size else _DAMAGED


StorageFile = McapFile | SqliteFile


class _WholePages(apsw.VFS):
    """Opens database files without the torn page at their end, which SQLite would fill up with zeros and believe."""

    name = "re2pix-whole-pages"

    def __init__(self) -> None:
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _WholePagesFile("", name, flags)


class _WholePagesFile(apsw.VFSFile):
    def xFileSize(self) -> int:  # noqa: N802
        size = super().xFileSize()
        return size - size % _page_size(self.xRead(18, 0))


_WHOLE_PAGES = _WholePages()


def open_storage(path: Path, original: Path) -> StorageFile:
    """The file at `path`, told by its first bytes; `original` is what the user knows, where that had to be unpacked."""
    start = first_bytes(path)
    if start.startswith(_MCAP_MAGIC):
        return McapFile(path, original.name)
    if start.startswith(_SQLITE_MAGIC):
        return SqliteFile(path, original.name)
    if not start:
        raise BagError(f"{original}: is empty: copy or record it again")
    if start.startswith(_ROS_1_MAGIC):
        raise BagError(f"{original}: is a ROS 1 bag: convert it, for example with rosbags-convert")
    raise BagError(f"{original}: is neither MCAP nor SQLite: give a folder that ros2 bag recorded, or a file of one")


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


def unpack_zstd(data: bytes, largest: int = _LARGEST) -> bytes:
    """The content, which must be stated and sane: a frame of a few bytes can claim any size."""
    if zstandard.frame_content_size(data) > _LARGEST:
        raise zstandard.ZstdError("implausibly large")
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=largest)


def _unpacked(chunk: Chunk) -> Chunk:
    """The chunk without its compression; mcap would unpack it to any size."""
    size = chunk.uncompressed_size
    if size > _LARGEST:
        raise ValueError("implausibly large")
    data = chunk.data
    if chunk.compression == "zstd":
        data = unpack_zstd(data, size)
    elif chunk.compression == "lz4":
        data = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
    if len(data) != size:
        raise ValueError("not of the size it should have")
    return replace(chunk, compression="", data=data)


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    return 65536 if size in (0, 1) else size
