"""Stores tensors and plain values of a run, so that reading them executes nothing."""

import contextlib
import json
from pathlib import Path
from typing import Any

import torch

from re2pix_node.common.atomic_write import remove, write_beside
from re2pix_node.errors import CheckpointError, TrainingError
from re2pix_node.nets.checkpoints import load_plain


def store(file: Path, content: dict[str, Any]) -> None:
    try:
        with write_beside(file, replace=True) as partial:
            torch.save(content, partial)
    except (OSError, RuntimeError) as error:  # PyTorch's writer raises RuntimeError for a full disk
        reason = " ".join(str(error).split())[:120]
        raise TrainingError(
            f"{file}: cannot be written ({reason}): make room, and give the same command again"
        ) from None


def read_stored(file: Path) -> dict[str, Any]:
    try:
        content = load_plain(file)
        if not isinstance(content, dict):
            raise CheckpointError(f"{file}: it is a {type(content).__name__}")
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{file}: ")
        raise TrainingError(f"{file}: cannot be read ({reason}): restart this step with --force") from None
    return content


def sweep(folder: Path) -> None:
    """Remove the remains of a process that was killed while it stored."""
    for rest in folder.glob(".partial-*"):
        remove(rest)


def append_line(file: Path, line: dict[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def shorten_log(file: Path, step: int) -> None:
    """Remove the log lines of steps that will be repeated, and the unfinished line of a killed run."""
    if not file.is_file():
        return
    kept = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{file}: cannot be read ({error}): move it away, and give the same command again"
        ) from None
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # truncated, or not ours
            if json.loads(line)["step"] <= step:
                kept.append(f"{line}\n")
    with write_beside(file, replace=True) as partial:
        partial.write_text("".join(kept), encoding="utf-8")
