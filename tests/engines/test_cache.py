"""The cache of engines: which are used, which are built again and why, and what happens after faults."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from re2pix_node.engines.cache import EngineCache, EngineKey, cache_folder
from re2pix_node.errors import EngineError

KEY = EngineKey("ab" * 32, "TensorRT 10.3.0", "Orin", "8.7", "540.4 (CUDA 12.6)", "fp16", 1)


def builder(content: bytes = b"engine") -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def never(path: Path) -> None:
    raise AssertionError("built again")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def files(cache: EngineCache) -> set[str]:
    return {path.name if path.name.startswith(".") else path.suffix for path in cache.folder.iterdir()}


def test_an_engine_is_built_once(cache: EngineCache) -> None:
    path = cache.obtain(KEY, "tiny", builder())
    assert path.read_bytes() == b"engine"
    assert cache.obtain(KEY, "tiny", never) == path
    told = json.loads(cache.sidecar(KEY).read_text())
    assert told["key"] == dataclasses.asdict(KEY)
    assert (told["what"], told["bytes"]) == ("tiny", 6)
    assert told["seconds"] >= 0
    assert files(cache) == {".engine", ".json", ".lock"}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EngineKey)])
def test_an_engine_for_anything_else_is_another_one(cache: EngineCache, field: str) -> None:
    cache.obtain(KEY, "tiny", builder())
    other = dataclasses.replace(KEY, **{field: 2 if field == "builder" else "other"})
    assert not cache.has(other)
    assert cache.obtain(other, "tiny", builder(b"another")) != cache.engine(KEY)
    assert cache.engine(KEY).read_bytes() == b"engine"


def test_the_log_says_what_changed(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    cache.obtain(KEY, "tiny encode", builder())
    cache.obtain(dataclasses.replace(KEY, library="TensorRT 10.13.3"), "tiny encode", builder())
    assert "tiny encode: the existing engine does not fit" in caplog.text
    assert "library is 'TensorRT 10.3.0', needed is 'TensorRT 10.13.3'" in caplog.text
    assert "gpu" not in caplog.text


def damage(cache: EngineCache) -> dict[str, Callable[[], object]]:
    engine, sidecar = cache.engine(KEY), cache.sidecar(KEY)
    told = json.loads(sidecar.read_text())
    foreign = {**told, "key": {**told["key"], "gpu": "Thor"}}
    return {
        "one bit": lambda: engine.write_bytes(b"angine"),
        "cut short": lambda: engine.write_bytes(b"eng"),
        "empty": lambda: engine.write_bytes(b""),
        "engine gone": engine.unlink,
        "sidecar gone": sidecar.unlink,
        "sidecar empty": lambda: sidecar.write_bytes(b""),
        "sidecar binary": lambda: sidecar.write_bytes(b"\xff\x00"),
        "sidecar a list": lambda: sidecar.write_text("[]"),
        "sidecar without hash": lambda: sidecar.write_text(json.dumps({"key": told["key"]})),
        "of another machine": lambda: sidecar.write_text(json.dumps(foreign)),
    }


FAULTS = (
    "one bit",
    "cut short",
    "empty",
    "engine gone",
    "sidecar gone",
    "sidecar empty",
    "sidecar binary",
    "sidecar a list",
    "sidecar without hash",
    "of another machine",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_damaged_or_foreign_is_built_again_and_the_log_says_so(
    cache: EngineCache, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    cache.obtain(KEY, "tiny", builder())
    damage(cache)[fault]()
    assert not cache.has(KEY)
    caplog.clear()
    assert cache.obtain(KEY, "tiny", builder(b"new")).read_bytes() == b"new"
    assert cache.has(KEY)
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert ("gpu is 'Thor', needed is 'Orin'" if fault == "of another machine" else "damaged") in record.getMessage()


def test_force_builds_again(cache: EngineCache) -> None:
    cache.obtain(KEY, "tiny", builder())
    assert cache.obtain(KEY, "tiny", builder(b"new"), force=True).read_bytes() == b"new"


def test_facts_are_added_to_the_sidecar(cache: EngineCache) -> None:
    cache.obtain(KEY, "tiny", builder())
    cache.note(KEY, {"proof": "cosine 0.999"})
    assert cache.told(KEY)["proof"] == "cosine 0.999"
    assert cache.has(KEY)
    cache.sidecar(KEY).write_bytes(b"\xff")
    cache.note(KEY, {"proof": "cosine 0.999"})  # not its business
    assert cache.told(KEY) == {}
    assert not cache.has(KEY)


@pytest.mark.parametrize("error", [EngineError("no"), KeyboardInterrupt()])
def test_a_build_that_fails_leaves_nothing(cache: EngineCache, error: BaseException) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        cache.obtain(KEY, "tiny", fail)
    assert files(cache) == {".lock"}
    cache.obtain(KEY, "tiny", builder())


# Runs in child processes: requests an engine whose build takes a while, and prints the result.
CLIENT = """
import json, os, sys, time
from pathlib import Path
from re2pix_node.engines.cache import EngineCache, EngineKey
folder, seconds, key = Path(sys.argv[1]), float(sys.argv[2]), EngineKey(**json.loads(sys.argv[3]))
def build(path):
    path.write_bytes(b"half")
    print("building", flush=True)
    time.sleep(seconds)
    path.write_bytes(f"engine of {os.getpid()}".encode())
waited = []
engine = EngineCache(folder).obtain(key, "tiny", build, lambda: waited.append(1))
print(engine.read_text(), "waited" if waited else "", flush=True)
"""


def client(cache: EngineCache, seconds: float) -> "subprocess.Popen[str]":
    arguments = [str(cache.folder), str(seconds), json.dumps(dataclasses.asdict(KEY))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_of_processes_that_want_the_same_engine_one_builds_it(cache: EngineCache) -> None:
    clients = [client(cache, 3.0) for _ in range(3)]
    told = [process.communicate(timeout=100)[0].splitlines() for process in clients]
    assert sum("building" in lines for lines in told) == 1
    assert len({lines[-1].removesuffix("waited").strip() for lines in told}) == 1
    assert files(cache) == {".engine", ".json", ".lock"}


def test_a_killed_build_leaves_nothing_that_is_used_and_blocks_nobody(cache: EngineCache) -> None:
    with client(cache, 1000.0) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "building\n"
        killed.send_signal(signal.SIGKILL)
    assert [path.read_bytes() for path in cache.folder.glob(".partial-*")] == [b"half"]
    assert not cache.has(KEY)
    start = time.monotonic()
    assert cache.obtain(KEY, "tiny", builder()).read_bytes() == b"engine"
    assert time.monotonic() - start < 5
    assert files(cache) == {".engine", ".json", ".lock"}


def test_who_waits_may_give_up(cache: EngineCache) -> None:
    def give_up() -> None:
        raise EngineError("stopped")

    with client(cache, 1000.0) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(EngineError, match="stopped"):
            cache.obtain(KEY, "tiny", never, give_up)
        other.kill()


def test_on_a_full_disk_the_error_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        cache = EngineCache(disk / "engines")
        with pytest.raises(
            EngineError, match=r"cannot be written: No space left on device: free some space, or set XDG"
        ):
            cache.obtain(KEY, "tiny", builder(bytes(1 << 20)))
        assert files(cache) == {".lock"}
        cache.obtain(KEY, "tiny", builder(bytes(1 << 16)))  # one that fits is no worse for it
    finally:
        subprocess.run(["umount", disk], check=True)


def test_with_a_limit_on_the_size_of_files_likewise(cache: EngineCache) -> None:
    # For machines without mounts: the same error in another way, in a process with a limit.
    code = CLIENT.replace(
        "import json", "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\nimport json"
    )
    code = code.replace('f"engine of {os.getpid()}".encode()', "bytes(1 << 20)")
    arguments = [str(cache.folder), "0", json.dumps(dataclasses.asdict(KEY))]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert "EngineError" in done.stderr
    assert "cannot be written: File too large: free some space" in done.stderr.splitlines()[-1]
    assert files(cache) == {".lock"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"file/engines: engines cannot be written: Not a directory.*XDG_CACHE_HOME"):
        EngineCache(tmp_path / "file/engines").obtain(KEY, "tiny", builder())


def test_what_is_built_can_be_used_from_a_folder_without_write_access(cache: EngineCache) -> None:
    cache.obtain(KEY, "tiny", builder())
    for lock in cache.folder.glob("*.lock"):
        lock.unlink()
    cache.folder.chmod(0o500)
    try:
        cache.obtain(KEY, "tiny", never)
    finally:
        cache.folder.chmod(0o700)
    assert files(cache) == {".engine", ".json"}  # for root, who may write anywhere: nothing was


@pytest.mark.parametrize(
    ("base", "folder"), [("/var/x", "/var/x/re2pix/engines"), ("x", "/home/a/.cache/re2pix/engines"), ("", None)]
)
def test_the_folder_is_in_the_users_cache(base: str, folder: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    assert str(cache_folder()) == (folder or "/home/a/.cache/re2pix/engines")
