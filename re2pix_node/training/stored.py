"""What a run stores as it goes: tensors and plain values only, so that reading them back executes nothing."""

import contextlib
import json
from pathlib import Path
from typing import Any

import torch

from re2pix_node.common.atomic_write import remove, write_beside
from re2pix_node.errors import TrainingError


def store(file: Path, content: dict[str, Any]) -> None:
    try:
        with write_beside(file, replace=True) as partial:
            torch.save(content, partial)
    except (OSError, RuntimeError) as error:  # PyTorch's own writer tells of a full disk by the latter
        reason = " ".join(str(error).split())[:120]
        raise TrainingError(
            f"{file}: cannot be written ({reason}): make room, and give the same command again"
        ) from None


def read_stored(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive fails wherever it is damaged
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TrainingError(f"{file}: cannot be read ({reason}): start this step anew with --force") from None
    return content


def sweep(folder: Path) -> None:
    """Removes what a process that was killed as it stored has left."""
    for rest in folder.glob(".partial-*"):
        remove(rest)


def append_line(file: Path, line: dict[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def shorten_log(file: Path, step: int) -> None:
    """Steps that are done again are not listed twice; the line that a killed run left unfinished goes too."""
    if not file.is_file():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            if json.loads(line)["step"] <= step:
                kept.append(f"{line}\n")
    with write_beside(file, replace=True) as partial:
        partial.write_text("".join(kept), encoding="utf-8")
