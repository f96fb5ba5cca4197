"""Loads and proves a bundle in a child process before this process loads it.

Engines are native code, and a graph can crash them, keep them busy without end or take all memory. Whoever has passed
here is remembered, so that only the first start with a bundle takes longer.
"""

import contextlib
import hashlib
import importlib
import json
import os
import pickle
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, BinaryIO

from re2pix_node.bundle.reader import Bundle
from re2pix_node.common import subprocess_python
from re2pix_node.common.cpu import cpu_model
from re2pix_node.common.limits import LOAD_SECONDS
from re2pix_node.common.watched_process import end_of
from re2pix_node.common.wording import printable
from re2pix_node.engines.base import Runtime
from re2pix_node.engines.cache import cache_folder
from re2pix_node.engines.registry import entries
from re2pix_node.errors import EngineError

SWITCH = "RE2PIX_TRIAL"  # environment variable; `never` loads at once
CHILD = "re2pix_node.engines.trial_child"
VERSION = 1  # of what a trial does: another version tries all bundles again


def try_apart(runtime: Runtime, bundle: Bundle, precision: str, threads: int, attempt: Callable[..., Any]) -> None:
    """Make the attempt in a child process first; EngineError if it crashes, hangs, or takes too much memory there.

    `attempt`, a function of a module, takes the same arguments and loads and proves the graphs. Faults that the child
    itself reports are left to this process, which finds the same. GPU runtimes are not tried: they build their engines
    in a process of their own.
    """
    module = next((entry.module for entry in entries() if entry.name == runtime.name), "")
    if os.environ.get(SWITCH) == "never" or runtime.load_graph is None or not _is_registered(runtime, module):
        return
    what = attempt.__module__, attempt.__name__
    key = _key(runtime, bundle, precision, what)
    if _is_remembered(key):
        return
    fault = _fault_of_child((module, precision, bundle, threads, what))
    if fault:
        raise EngineError(f"{runtime.name} {precision}: {fault} when it loaded and proved this bundle")
    _remember(key)


def _is_registered(runtime: Runtime, module: str) -> bool:
    return bool(module) and getattr(importlib.import_module(module), "RUNTIME", None) is runtime


def _fault_of_child(job: tuple[Any, ...]) -> str:
    """How the child ended, if it did not report; empty if it did."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            subprocess_python.command(CHILD, str(os.getpid())),
            env={**subprocess_python.environment(), SWITCH: "never"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(pickle.dumps(job))
            child.stdin.close()
        end = end_of(child, LOAD_SECONDS)
        return end and f"{end}{_last_words(errors)}"


def _last_words(errors: BinaryIO) -> str:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - 2000))
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return f" ({printable(lines[-1][:100])})" if lines else ""


def _key(runtime: Runtime, bundle: Bundle, precision: str, what: tuple[str, str]) -> str:
    facts = [VERSION, runtime.name, runtime.version(), precision, *what, cpu_model(), asdict(bundle.manifest)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_remembered(key: str) -> bool:
    try:
        return (cache_folder().parent / "tried" / key).is_file()
    except (OSError, EngineError):
        return False


def _remember(key: str) -> None:
    # Without a folder for it, every start tries again.
    with contextlib.suppress(OSError, EngineError):
        folder = cache_folder().parent / "tried"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()
