"""Reads SQLite recordings up to where they are damaged, row by row in recorded order.

rosbags first counts and sorts, and fails there on one damaged page. This reader returns everything undamaged, and
`damage` then says what was lost.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from re2pix_node.common.files import open_regular
from re2pix_node.common.limits import BAG_TOPICS, MESSAGE_BYTES
from re2pix_node.recordings.storage import DAMAGED, TRUNCATED, Topic

SQLITE_MAGIC = b"SQLite format 3\0"

_DAMAGE_SHOWS_AS = (apsw.Error, UnicodeDecodeError, OSError)
_NAME_MAX = 4096  # characters of a topic or of a type
_LENGTH_MAX = 1_000_000_000  # SQLite's own limit of bytes in a value
_STEPS, _STEPS_AT_LEAST = 10_000, 2_000_000  # instructions of SQLite between two checks, and in the smallest file
_TOPICS = (
    "SELECT id, name, type FROM topics WHERE typeof(name) = 'text' AND typeof(type) = 'text' "
    "AND length(name) <= ? AND length(type) <= ? ORDER BY id LIMIT ?"
)
_COUNTS = "SELECT topic_id, COUNT(*) FROM messages WHERE topic_id IN (SELECT id FROM topics) GROUP BY topic_id"
# By id and not by time: the index of the times may be damaged.
_MESSAGES = (
    "SELECT messages.id, timestamp, data FROM messages "
    "WHERE topic_id IN (SELECT id FROM topics WHERE name = ? AND type = ?) ORDER BY messages.id"
)


class _NoRecordingError(Exception):
    """The database is none of a recording, or one with too much in it."""


class SqliteFile:
    """One .db3 file."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.damage: str | None = None
        self._path = path

    def topics(self) -> Counter[Topic]:
        """The topics and their numbers of messages; not all of them if `damage` is set afterwards."""
        rows: list[Any] = []
        counts: dict[Any, Any] = {}
        try:
            with closing(self._open()) as database:
                rows = list(database.execute(_TOPICS, (_NAME_MAX, _NAME_MAX, BAG_TOPICS.value + 1)))
                if len(rows) > BAG_TOPICS.value:
                    raise _NoRecordingError(f"has too many topics, {BAG_TOPICS}")
                counts = dict(database.execute(_COUNTS))
        except _NoRecordingError as error:
            self.damage, rows = self._kind_of_damage(str(error)), []
        except _DAMAGE_SHOWS_AS as error:
            self.damage = self._kind_of_damage()
            if self.damage == DAMAGED and isinstance(error, apsw.SQLError):
                self.damage = "holds no recording"
        topics: Counter[Topic] = Counter()
        for number, name, kind in rows:
            topics[Topic(name, kind)] += counts.get(number, 0)
        return topics

    def messages(self, topic: Topic) -> Iterator[tuple[int, bytes]]:
        """Log time and serialized data of each message."""
        last = None
        try:
            with closing(self._open()) as database:
                for number, received, data in database.execute(_MESSAGES, topic):
                    # In a damaged file the same pages can come again and again.
                    if last is not None and number <= last:
                        raise apsw.CorruptError("rows out of order")
                    last = number
                    if isinstance(received, int) and isinstance(data, bytes):
                        yield received, data
                    else:
                        self.damage = DAMAGED
        except _NoRecordingError as error:
            self.damage = self._kind_of_damage(str(error))
        except _DAMAGE_SHOWS_AS:
            self.damage = self._kind_of_damage()

    def _open(self) -> apsw.Connection:
        with open_regular(self._path):
            pass
        # Rows that a killed recorder had not moved into the file yet are in the log beside it.
        log = self._path.with_name(f"{self._path.name}-wal")
        has_log = log.is_file() and log.stat().st_size > 0
        truncated = not has_log and self._kind_of_damage() == TRUNCATED
        database = apsw.Connection(
            f"{self._path.absolute().as_uri()}?{'mode=ro' if has_log else 'immutable=1'}",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            vfs=_WHOLE_PAGES.name if truncated else None,
        )
        # As sqlite.org recommends for untrusted files.
        database.execute("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")
        database.limit(apsw.SQLITE_LIMIT_LENGTH, min(MESSAGE_BYTES.value, _LENGTH_MAX))
        steps = _Steps(self._path.stat().st_size)
        database.set_progress_handler(steps.are_spent, _STEPS)
        if truncated:
            # Lets SQLite open a file that has fewer pages than its header says.
            database.execute("PRAGMA writable_schema = ON")
        _require_plain_tables(database)
        return database

    def _kind_of_damage(self, otherwise: str = DAMAGED) -> str:
        with open_regular(self._path) as stream:
            header = stream.read(100)
        expected_size = max(100, _page_size(header) * int.from_bytes(header[28:32], "big"))
        return TRUNCATED if self._path.stat().st_size < expected_size else otherwise


class _Steps:
    """Ends a query that takes more steps than any recording of that size needs."""

    def __init__(self, size: int) -> None:
        self._left = (_STEPS_AT_LEAST + size) // _STEPS

    def are_spent(self) -> bool:
        self._left -= 1
        return self._left < 0


def _require_plain_tables(database: apsw.Connection) -> None:
    """Views, virtual tables and computed columns would run code of the file, which may never end."""
    query = "SELECT type, sql FROM sqlite_master WHERE name = ? COLLATE NOCASE"
    for table in ("topics", "messages"):
        found = list(database.execute(query, (table,)))
        hidden = [row[6] for row in database.execute(f"PRAGMA table_xinfo({table})")]
        plain = [kind for kind, sql in found if kind == "table" and str(sql).upper().startswith("CREATE TABLE")]
        if len(found) != 1 or not plain or not hidden or any(hidden):
            raise _NoRecordingError("holds no recording")


class _WholePages(apsw.VFS):
    """Hides the incomplete page at the end of a database file, which SQLite would fill with zeros and trust.

    Python's own sqlite3 cannot do this; it would return messages that end in zeros.
    """

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


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    return 65536 if size in (0, 1) else size
