"""One line that says how far a long piece of work is, and when it will be done."""

import io
import os
import sys
import time
from typing import TextIO

EVERY = {True: 0.5, False: 30.0}  # seconds between lines: in a terminal they replace one another


class Progress:
    """To standard error: a line that changes in a terminal, else a new one every half minute."""

    def __init__(self, what: str, total: int, done: int = 0, stream: TextIO | None = None) -> None:
        self._what, self._total, self._done = what, total, done
        # Of several processes one speaks.
        self._stream = stream or (sys.stderr if os.environ.get("RANK", "0") == "0" else io.StringIO())
        self._terminal = self._stream.isatty()
        self._start = self._shown = time.monotonic()
        self._first = done
        self._width = 0

    def add(self, count: int, note: str = "") -> None:
        """So many more are done; the note is shown with them."""
        self._done += count
        now = time.monotonic()
        if now - self._shown >= EVERY[self._terminal] or (self._done >= self._total and self._first < self._total):
            self._shown = now
            self._show(now, note)

    def say(self, text: str) -> None:
        """A line of its own, that stays."""
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
