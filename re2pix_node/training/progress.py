"""One line with the progress of a long task and its expected end."""

import io
import os
import sys
import time
from typing import TextIO

EVERY = {True: 0.5, False: 30.0}  # seconds between lines; in a terminal each replaces the last


class Progress:
    """Prints to standard error: one changing line in a terminal, else a new line every half minute."""

    def __init__(self, what: str, total: int, done: int = 0, stream: TextIO | None = None) -> None:
        self._what, self._total, self._done = what, total, done
        # Only one of several processes prints.
        self._stream = stream or (sys.stderr if os.environ.get("RANK", "0") == "0" else io.StringIO())
        self._terminal = self._stream.isatty()
        self._start = self._shown = time.monotonic()
        self._first = done
        self._width = 0

    def add(self, count: int, note: str = "") -> None:
        """Add this many finished items; the note is shown with them."""
        self._done += count
        now = time.monotonic()
        if now - self._shown >= EVERY[self._terminal] or (self._done >= self._total and self._first < self._total):
            self._shown = now
            self._show(now, note)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._width:
            print(file=self._stream, flush=True)
            self._width = 0

    def _show(self, now: float, note: str) -> None:
        made, spent = self._done - self._first, now - self._start
        left = duration((self._total - self._done) * spent / made) if made else "?"
        rate = f"{made / spent:.1f} a second" if spent > 0 else ""
        parts = [f"{self._what} {self._done}/{self._total}", rate, f"{left} left", note]
        line = ", ".join(part for part in parts if part)
        if self._terminal:
            print("\r" + line.ljust(self._width), end="", file=self._stream, flush=True)
            self._width = len(line)
        else:
            print(line, file=self._stream, flush=True)

    def _clear(self) -> None:
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=self._stream)
            self._width = 0


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
