"""Exact flow, against what geometry says of a made-up drive."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.errors import DataError
from re2pix_node.footage.exact_drives import ExactDrive
from re2pix_node.training.mover.truth import backward_flow
from tests.training.mover import worlds
from tests.training.mover.worlds import BOX_COLUMNS, BOX_ROWS, sideways

CPU = torch.device("cpu")


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_wall_moves_as_the_camera_did(steps: int) -> None:
    flow, seen = backward_flow(sideways(), steps, CPU)
    wanted = steps * worlds.STEP * worlds.FOCAL / worlds.WALL / 2  # pixels of half size
    beside = flow[4, :, 2, 3:20].float()
    assert torch.allclose(beside[0], torch.full_like(beside[0], wanted), atol=0.02)
    assert beside[1].abs().max() < 0.02
    assert seen[4, 2, 3:20].all()


def test_what_moves_by_itself_moves_otherwise() -> None:
    flow, _ = backward_flow(sideways(), 1, CPU)
    box = flow[2, 0, BOX_ROWS, BOX_COLUMNS].float()
    assert torch.allclose(box, torch.full_like(box, -worlds.BOX_STEP * worlds.FOCAL / worlds.BOX / 2), atol=0.02)


def test_hidden_left_or_unknown_is_not_seen() -> None:
    drive = sideways()
    _, seen = backward_flow(drive, 1, CPU)
    assert not seen[0].any()  # nothing came before
    assert not seen[1, :, -1].any()  # it was outside of the picture
    # The wall just left of the box was behind it a frame before.
    assert not seen[1, BOX_ROWS, BOX_COLUMNS.start - 1].any()
    gone = dataclasses.replace(drive, objects=drive.objects.copy())
    gone.objects[0, 1] = np.nan
    assert not backward_flow(gone, 1, CPU)[1][1, BOX_ROWS, BOX_COLUMNS].any()
    assert torch.isfinite(backward_flow(gone, 1, CPU)[0]).all()


def test_the_sky_turns_with_the_camera() -> None:
    drive = sideways()
    depth = drive.depth.copy()
    depth[:, 0] = np.inf
    flow, seen = backward_flow(dataclasses.replace(drive, depth=depth), 1, CPU)
    assert flow[1, :, 0].abs().max() < 0.1  # it is too far away to move
    assert seen[1, 0].all()


def test_a_drive_comes_back_from_its_file(tmp_path: Path) -> None:
    drive = sideways()
    drive.save(tmp_path / "000001.npz")
    again = ExactDrive.load(tmp_path / "000001.npz")
    assert all(
        np.array_equal(getattr(drive, field.name), getattr(again, field.name), equal_nan=True)
        for field in dataclasses.fields(drive)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["000001.npz"]


def test_what_is_no_drive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"x\.npz: is not an exact drive"):
        ExactDrive.load(tmp_path / "x.npz")
