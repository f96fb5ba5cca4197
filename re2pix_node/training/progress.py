"""The progress of a long task and its expected end."""

import os
import sys
from typing import Any

from tqdm import tqdm

LINE = "{desc} {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class _Lines:
    """Prints each state of the bar as a line, where standard error is not a terminal."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)

    def flush(self) -> None:
        """`write` flushes."""


def progress_bar(what: str, unit: str, total: int, done: int = 0) -> "tqdm[object]":
    """A bar on standard error; outside a terminal, a line every half minute. Only one of several processes prints."""
    terminal = sys.stderr.isatty()
    bar: tqdm[Any] = tqdm(
        desc=what,
        unit=unit,
        total=total,
        initial=done,
        smoothing=0,
        miniters=1,
        mininterval=0.5 if terminal else 30,
        file=sys.stderr if terminal else _Lines(),
        bar_format=None if terminal else LINE,
        disable=done == total or os.environ.get("RANK", "0") != "0",
    )
    return bar
