"""Limits on files from elsewhere, and the one reader of them."""

import os
from pathlib import Path

import pytest

from re2pix_node.common import limits
from re2pix_node.common.files import RefusedFileError, read_file
from re2pix_node.common.limits import KIB, LIMITS, Limit

SMALL = Limit("RE2PIX_MAX_SMALL", 2 * KIB, "bytes", "a small file")


def test_the_page_lists_every_limit() -> None:
    page = Path(__file__).parents[2] / "docs/limits.md"
    assert limits.page() in page.read_text()
    assert len({limit.name for limit in LIMITS}) == len(LIMITS) > 10


@pytest.mark.parametrize(
    ("text", "value"), [("5000", 5000), ("", 2048), ("many", 2048), ("-1", 2048), ("9" * 30, 2048)]
)
def test_the_environment_sets_a_limit(monkeypatch: pytest.MonkeyPatch, text: str, value: int) -> None:
    monkeypatch.setenv(SMALL.name, text)
    assert SMALL.value == value


def test_a_file_over_the_limit_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(2048))
    assert len(read_file(file, SMALL)) == 2048
    file.write_bytes(bytes(3 * KIB))
    with pytest.raises(RefusedFileError) as caught:
        read_file(file, SMALL)
    assert caught.value.strerror == "3 KiB large, the limit is 2 KiB: set RE2PIX_MAX_SMALL to raise it"
    monkeypatch.setenv(SMALL.name, "4096")
    assert len(read_file(file, SMALL)) == 3 * KIB


def test_a_file_without_a_size_is_limited_too() -> None:
    with pytest.raises(RefusedFileError, match="the limit is 1 bytes"):
        read_file(Path("/proc/self/status"), Limit("RE2PIX_MAX_NONE", 1, "bytes", "nothing"))


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a pipe", "link to a device", "folder"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    targets = {"pipe": pipe, "device": Path("/dev/zero"), "folder": tmp_path}
    file.symlink_to(targets[kind.removeprefix("link to a ")])
    with pytest.raises(IsADirectoryError if kind == "folder" else RefusedFileError, match=r"regular|directory"):
        read_file(file if kind.startswith("link") else targets[kind], SMALL)
