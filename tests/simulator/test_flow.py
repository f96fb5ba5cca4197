"""Flow out of depth and poses must take every pixel to where it is in the next picture."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from re2pix_node.simulator.flow import flow_between, warp
from re2pix_node.simulator.mesh import Array
from re2pix_node.simulator.reader import DriveFrame
from re2pix_node.simulator.sheet import main


def error(a: DriveFrame, picture: Array, where: Array) -> float:
    return float(np.abs(a.image.astype(float) - picture)[where].mean())


def test_warping_the_later_picture_gives_the_earlier_one(frames: list[DriveFrame]) -> None:
    a, b = frames[4], frames[7]
    flow, visible = flow_between(a, b)
    assert 0.4 < visible.mean() < 1
    assert np.abs(flow[visible]).max() > 5
    assert error(a, warp(b.image, flow), visible) < 0.5 * error(a, b.image, visible)


def test_what_moves_itself_is_followed_too(frames: list[DriveFrame]) -> None:
    warped = still = 0.0
    for a, b in zip(frames, frames[3:], strict=False):
        flow, visible = flow_between(a, b)
        moving = visible & (a.instances > 0)
        frozen, _ = flow_between(a, replace(b, objects=a.objects))
        warped += float(np.abs(a.image - warp(b.image, flow))[moving].sum())
        still += float(np.abs(a.image - warp(b.image, frozen))[moving].sum())
    assert warped < 0.75 * still


def test_there_and_back_ends_where_it_began(frames: list[DriveFrame]) -> None:
    a, b = frames[2], frames[5]
    there, seen = flow_between(a, b)
    back, returns = flow_between(b, a)
    visible_back = warp(returns[..., None].astype(float), there)[..., 0] == 1
    apart = np.linalg.norm(there + warp(back, there), axis=-1)[seen & visible_back]
    assert np.median(apart) < 0.05
    assert np.percentile(apart, 95) < 0.5


def test_no_time_is_no_motion(frames: list[DriveFrame]) -> None:
    flow, visible = flow_between(frames[0], frames[0])
    assert np.abs(flow).max() < 1e-4
    assert visible.mean() > 0.999


def test_an_object_that_left_is_not_visible(frames: list[DriveFrame]) -> None:
    a, b = frames[0], frames[1]
    _, visible = flow_between(a, replace(b, objects={}))
    assert not visible[a.instances > 0].any()
    assert visible[a.instances == 0].mean() > 0.5


def test_a_sheet_shows_every_modality_and_tells_the_warp_errors(simulated: Path, tmp_path: Path, capsys) -> None:
    main(str(tmp_path / "sheet.png"), str(simulated))
    warped, still = map(float, re.findall(r"warped ([\d.]+)", capsys.readouterr().out))
    assert warped < 0.5 * still
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (224, 6 * 448, 3)
