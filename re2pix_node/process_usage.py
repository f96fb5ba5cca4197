"""What a process takes of the machine, as Linux tells it."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    resident: int  # bytes of memory
    threads: int
    handles: int  # open files, sockets and the like
    processor: float  # seconds of all its threads so far


def usage_of(process_id: int) -> Usage:
    """The usage of a process that runs; OSError when it does not."""
    folder = Path("/proc") / str(process_id)
    # The second field is the program's name, in brackets, and may hold anything.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    user, system, threads = int(fields[11]), int(fields[12]), int(fields[17])
    return Usage(
        resident=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        threads=threads,
        handles=len(os.listdir(folder / "fd")),  # noqa: PTH208
        processor=(user + system) / os.sysconf("SC_CLK_TCK"),
    )
