"""Built engines on disk. One is used only if it is complete and made for exactly this graph, library and machine."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from re2pix_node.common.atomic_write import remove, write_beside
from re2pix_node.errors import EngineError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineKey:
    """Everything that a built engine depends on."""

    graph: str  # sha256 of the ONNX file
    library: str  # name and version
    gpu: str
    capability: str
    driver: str
    precision: str
    builder: int  # our own version of how engines are built

    @property
    def name(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.graph[:12]}-{self.precision}-{digest[:16]}"


def cache_folder() -> Path:
    """The folder of engines: never /tmp, where any user could leave one for us to run."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():  # by the XDG rules, a relative path counts as unset
        return Path(base) / "re2pix/engines"
    try:
        return Path.home() / ".cache/re2pix/engines"
    except RuntimeError:
        raise EngineError("there is no home directory for built engines: set XDG_CACHE_HOME") from None


class EngineCache:
    """A folder of engines. Each has a JSON file (sidecar) with its key and its hash."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()

    def engine(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.engine"

    def sidecar(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.json"

    def has(self, key: EngineKey) -> bool:
        return self._fault(key) is None

    def told(self, key: EngineKey) -> dict[str, Any]:
        """The content of the sidecar; empty if there is none or it cannot be read."""
        try:
            told = json.loads(self.sidecar(key).read_bytes())
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    def obtain(
        self,
        key: EngineKey,
        what: str,
        build: Callable[[Path], None],
        waiting: Callable[[], None] = lambda: None,
        force: bool = False,
    ) -> Path:
        """The engine for `key`; it is built if there is no usable one.

        `build` writes it to the given path. If several processes need the same engine, one builds and the others wait;
        they call `waiting` repeatedly, which may raise an error to give up.
        """
        if not force and self.has(key):  # without the lock, because the folder may be read-only
            return self.engine(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(key, waiting) as waited:
                fault = self._fault(key)
                if fault is None and (waited or not force):
                    return self.engine(key)
                logger.warning("%s: %s", what, fault or "building again, as requested")
                self._build(key, what, build)
        except OSError as error:
            raise EngineError(cannot_write(self.folder, error)) from None
        return self.engine(key)

    def note(self, key: EngineKey, facts: Mapping[str, object]) -> None:
        """Add to the sidecar, if it can be written; the engine is usable without it."""
        told = self.told(key)
        if not told or all(told.get(name) == value for name, value in facts.items()):
            return
        try:
            _write_json(self.sidecar(key), {**told, **facts})
        except OSError as error:
            logger.warning("%s: not kept up to date: %s", self.sidecar(key), error)

    def _build(self, key: EngineKey, what: str, build: Callable[[Path], None]) -> None:
        engine = self.engine(key)
        for left in self.folder.glob(f".partial-*-{key.name}.*"):  # left by killed builders; we hold the lock
            remove(left)
        start = time.monotonic()
        with write_beside(engine, replace=True, error=EngineError) as partial:
            build(partial)
            data = partial.read_bytes()
        told = {
            "what": what,
            "key": asdict(key),
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "seconds": round(time.monotonic() - start, 1),
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        # The engine first: without a sidecar that has its hash it is not used, so a crash in between is harmless.
        _write_json(self.sidecar(key), told)
        logger.info("%s: built in %.0f s: %s", what, told["seconds"], engine)

    def _fault(self, key: EngineKey) -> str | None:
        """Why there is no usable engine; None if there is one."""
        engine, sidecar = self.engine(key), self.sidecar(key)
        if not engine.exists() and not sidecar.exists():
            return self._stale(key)
        try:
            told = json.loads(sidecar.read_bytes())
            if told["key"] != asdict(key):
                return f"{engine} is for something else ({_difference(told['key'], key)}): building it again"
            found = hashlib.sha256(engine.read_bytes()).hexdigest()
            if found != told["sha256"]:
                return f"{engine} is damaged (its sha256 is not the one in its sidecar): building it again"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{engine} is unfinished or damaged ({type(error).__name__}: {error}): building it again"
        return None

    def _stale(self, key: EngineKey) -> str:
        """Log for what else engines of this graph exist, so that the log explains why it is built again."""
        sidecars = sorted(self.folder.glob(f"{key.graph[:12]}-{key.precision}-*.json"))
        reasons = [reason for reason in (_misfit(sidecar, key) for sidecar in sidecars) if reason]
        if reasons:
            return f"the existing engine does not fit ({reasons[-1]}): building another one"
        return "there is no engine yet: building it now"

    @contextmanager
    def _locked(self, key: EngineKey, waiting: Callable[[], None]) -> Iterator[bool]:
        """Hold the lock of one engine; yield whether it had to wait. A process that dies releases it."""
        # Lock files stay: deleting one that a process waits for would let two processes build at once.
        with (self.folder / f"{key.name}.lock").open("w") as file:
            waited = False
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waited = True
                    waiting()
                    time.sleep(0.1)
            yield waited


def cannot_write(path: Path, error: OSError) -> str:
    text = f"{path}: engines cannot be written: {error.strerror or error}"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{text}: {'free some space' if full else 'make it writable'}, or set XDG_CACHE_HOME to another place"


def _misfit(sidecar: Path, key: EngineKey) -> str:
    try:
        return _difference(json.loads(sidecar.read_bytes())["key"], key)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _difference(told: Mapping[str, Any], key: EngineKey) -> str:
    wanted = asdict(key)
    return ", ".join(
        f"{field.name} is {told.get(field.name)!r}, needed is {wanted[field.name]!r}"
        for field in fields(key)
        if told.get(field.name) != wanted[field.name]
    )


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    with write_beside(path, replace=True, error=EngineError) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")
