"""The memory, handles and processor time of a process, from Linux."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    resident: int  # bytes of memory
    held: int  # bytes of it that are not pages of files (the kernel drops and rereads those at any time)
    threads: int
    handles: int  # open files, sockets and the like
    processor: float  # seconds that all its threads have used so far


def usage_of(process_id: int) -> Usage:
    """The usage of a running process; OSError if it does not run."""
    folder = Path("/proc") / str(process_id)
    # The second field is the program's name in brackets; it may contain any characters.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    anonymous, files, shared = (_bytes(status[name]) for name in ("RssAnon", "RssFile", "RssShmem"))
    return Usage(
        resident=anonymous + files + shared,
        held=anonymous + shared,
        threads=int(status["Threads"]),
        handles=len(os.listdir(folder / "fd")),  # noqa: PTH208
        processor=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
    )


def _bytes(kibibytes: str) -> int:
    return int(kibibytes.split()[0]) << 10
