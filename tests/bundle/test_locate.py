"""A shipped bundle can be given by its name; an existing path is taken unchanged."""

from pathlib import Path

import pytest

from re2pix_node.bundle.locate import bundle_folder


def test_a_name_is_looked_up_in_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "install/share/re2pix_node/models/some-model"
    folder.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path / 'install'}")
    assert bundle_folder("some-model") == folder
    assert bundle_folder("other-model") == Path("other-model")
    assert bundle_folder("a/some-model") == Path("a/some-model")


def test_a_folder_at_hand_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("re2pix-nano").mkdir()
    assert bundle_folder("re2pix-nano") == Path("re2pix-nano")
