"""Built engines on disk: each is whole and made for exactly this graph, library and machine, or it is not used."""

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
    """All that a built engine depends on."""

    graph: str  # sha256 of the ONNX file
    library: str  # its name and version
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
    """Where engines are kept: never in /tmp, where anyone could leave one for us to run."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():  # XDG says that relative ones count as unset
        return Path(base) / "re2pix/engines"
    try:
        return Path.home() / ".cache/re2pix/engines"
    except RuntimeError:
        raise EngineError("there is no home directory to keep built engines in: set XDG_CACHE_HOME") from None


class EngineCache:
    """A folder of engines. Beside each lies a JSON file that says what it is, and its hash."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()

    def engine(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.engine"

    def sidecar(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.json"

    def has(self, key: EngineKey) -> bool:
        return self._fault(key) is None

    def told(self, key: EngineKey) -> dict[str, Any]:
        """What the sidecar says; nothing where there is none that can be read."""
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
        """The engine for `key`, built if there is none that can be used.

        `build` writes it to the path that it is given. Of several processes that want the same engine one builds and
        the others wait, calling `waiting` again and again, which may raise to give up.
        """
        if not force and self.has(key):  # without the lock: the folder may be read-only
            return self.engine(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(key, waiting) as waited:
                fault = self._fault(key)
                if fault is None and (waited or not force):
                    return self.engine(key)
                logger.warning("%s: %s", what, fault or "to be built again, as asked")
                self._build(key, what, build)
        except OSError as error:
            raise EngineError(cannot_write(self.folder, error)) from None
        return self.engine(key)

    def note(self, key: EngineKey, facts: Mapping[str, object]) -> None:
        """Adds to what the sidecar says, where it can be written: an engine is as good without."""
        told = self.told(key)
        if not told or all(told.get(name) == value for name, value in facts.items()):
            return
        try:
            _write_json(self.sidecar(key), {**told, **facts})
        except OSError as error:
            logger.warning("%s: not kept up to date: %s", self.sidecar(key), error)

    def _build(self, key: EngineKey, what: str, build: Callable[[Path], None]) -> None:
        engine = self.engine(key)
        for left in self.folder.glob(f".partial-*-{key.name}.*"):  # by builders that were killed; we hold the lock
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
        # The engine first: one without a sidecar that knows its hash is not used, whatever happens in between.
        _write_json(self.sidecar(key), told)
        logger.info("%s: built in %.0f s: %s", what, told["seconds"], engine)

    def _fault(self, key: EngineKey) -> str | None:
        """Why there is no engine to use; None when there is one."""
        engine, sidecar = self.engine(key), self.sidecar(key)
        if not engine.exists() and not sidecar.exists():
            return self._stale(key)
        try:
            told = json.loads(sidecar.read_bytes())
            if told["key"] != asdict(key):
                return f"{engine} is foreign ({_difference(told['key'], key)}): it is built anew"
            found = hashlib.sha256(engine.read_bytes()).hexdigest()
            if found != told["sha256"]:
                return f"{engine} is damaged (its sha256 is not the one in its sidecar): it is built anew"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{engine} is unfinished or damaged ({type(error).__name__}: {error}): it is built anew"
        return None

    def _stale(self, key: EngineKey) -> str:
        """Says for what else there are engines of this graph, so that nobody wonders why it is built again."""
        sidecars = sorted(self.folder.glob(f"{key.graph[:12]}-{key.precision}-*.json"))
        reasons = [reason for reason in (_misfit(sidecar, key) for sidecar in sidecars) if reason]
        if reasons:
            return f"the engine that is there does not fit ({reasons[-1]}): another one is built"
        return "there is no engine yet: it is built now"

    @contextmanager
    def _locked(self, key: EngineKey, waiting: Callable[[], None]) -> Iterator[bool]:
        """Holds the lock of one engine; gives whether it had to wait. A process that dies lets go of it."""
        # Lock files stay: to delete one that somebody waits for would let two build at once.
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
        f"{field.name} is {told.get(field.name)!r}, wanted is {wanted[field.name]!r}"
        for field in fields(key)
        if told.get(field.name) != wanted[field.name]
    )


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    with write_beside(path, replace=True, error=EngineError) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")
