from pathlib import Path

import pytest

from re2pix_node.common.atomic_write import write_beside
from re2pix_node.errors import BagError, Re2pixError


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with write_beside(tmp_path / "out.txt") as partial:
        partial.write_text("new")
        assert not (tmp_path / "out.txt").exists()
        assert partial.suffix == ".txt"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"out.txt": "new"}


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("folder", [True, False])
def test_nothing_is_left_when_it_fails(tmp_path: Path, fault: type[BaseException], folder: bool) -> None:
    def fail() -> None:
        with write_beside(tmp_path / "out") as partial:
            if folder:
                partial.mkdir()
                partial = partial / "inside"
            partial.write_text("half")
            raise fault

    with pytest.raises(fault):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_unless_it_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(BagError, match="exists already"), write_beside(out, error=BagError):
        pass
    with pytest.raises(FileNotFoundError), write_beside(out, replace=True) as partial:
        (partial / "inside a folder that does not exist").write_text("half")
    assert (out / "old").read_text() == "old"
    with write_beside(out, replace=True) as partial:
        partial.mkdir()
        (partial / "new").write_text("new")
    assert [p.name for p in out.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_can_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with write_beside(tmp_path / "a", replace=True) as partial:
        partial.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Re2pixError, match="does not exist"), write_beside(tmp_path / "no" / "out"):
        pass
