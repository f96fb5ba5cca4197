"""The demo: a drive through the real node, and its pictures."""

import contextlib
import math
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.harness.demo_video import (
    CAPTION_HEIGHT,
    CHART_HEIGHT,
    GAP,
    PANEL_WIDTH,
    WIDTH,
    DemoVideo,
    Panel,
    VideoMoment,
)
from tests.support.ros_node import start
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest

LABELS = tiny_manifest().labels
NAN = math.nan


def test_a_drive_comes_back_as_a_table_a_still_and_a_video(tiny: Bundle, drive_bag: Path, tmp_path: Path) -> None:
    command = ["demo", "--bundle", tiny.path, "--drive", drive_bag, "--out", tmp_path / "demo"]
    process = start("-m", "re2pix_node.cli", *command)
    said, error = process.communicate(timeout=150)
    assert process.returncode == 0, error
    lines = said.splitlines()
    table = {line[:16].strip(): line[16:].strip() for line in lines if line.startswith("  ")}
    assert table["frames in"].startswith("90 sent")
    forecasts, contextless = map(int, re.findall(r"\d+", table["forecasts out"]))
    overtaken, skipped, unforecast, lost, undecodable = map(int, re.findall(r"\d+", table["drops"]))
    # How many of 70 depends on how busy the machine is.
    assert forecasts > 0
    assert (forecasts + contextless + overtaken + skipped + unforecast + lost, undecodable) == (90, 0)
    assert {"engine", "rate", "latency p50", "latency p99", "in the node", "drops"} <= table.keys()
    # The drive goes straight on, which is what the tiny bundle expects.
    # A busy machine may overtake all frames by which one of the horizons would be measured.
    for part in table["skill"].split(" (")[0].split(","):
        assert re.match(r"[+-]\d\.\d\d|not measured", part.strip()), part
    assert lines[-1] == f"video {tmp_path / 'demo' / 'demo.webm'}"
    still = cv2.imread(str(tmp_path / "demo" / "demo.png"))
    video = cv2.VideoCapture(str(tmp_path / "demo" / "demo.webm"))
    shown = 0
    while (grabbed := video.read())[0]:
        shown += 1
        assert grabbed[1].shape == still.shape
    # As many pictures as camera frames from the first forecast on: time runs as it did.
    assert forecasts <= shown <= 90


@pytest.mark.long
@pytest.mark.alone  # drawn at idle priority: nothing is, beside busy processes
def test_what_is_drawn_is_shown_beside_what_came(drive_bag: Path, tmp_path: Path) -> None:
    manifest = tiny_manifest(render=True)
    # On a busy machine a picture takes longer than the 0.6 s that others look ahead; the drive has 3 s.
    manifest = replace(manifest, time=replace(manifest.time, horizons=(1, 2, 10)))
    bundle = make_tiny_bundle(tmp_path / "drawing", manifest)
    process = start(
        "-m", "re2pix_node.cli", "demo", "--bundle", bundle.path, "--drive", drive_bag, "--out", tmp_path / "demo"
    )
    said, error = process.communicate(timeout=150)
    assert process.returncode == 0, error
    (told,) = (line.split(maxsplit=1)[1] for line in said.splitlines() if line.startswith("  pictures "))
    assert told.endswith(("openvino bf16", "openvino fp32", "onnxruntime fp32"))
    drawn = int(told.split()[0])
    assert drawn > 0, told
    still = cv2.imread(str(tmp_path / "demo" / "demo.png"))
    # Two rows and the charts, as ever; and the row of pictures.
    panel = CAPTION_HEIGHT + PANEL_WIDTH // 2 + GAP
    assert abs(still.shape[0] - (3 * panel + CHART_HEIGHT + GAP)) <= 2


def test_what_the_node_says_is_said(tiny: Bundle, drive_bag: Path, tmp_path: Path) -> None:
    command = ["demo", "--bundle", tiny.path, "--drive", drive_bag, "--out", tmp_path / "d", "--engine", "onnxruntime"]
    process = start("-m", "re2pix_node.cli", *command, "--precision", "bf16")
    _, error = process.communicate(timeout=150)
    assert process.returncode == 2
    assert "onnxruntime bf16: this machine does not offer it" in error.splitlines()[-1]
    assert not list((tmp_path / "d").iterdir())


def children_of(demo: int) -> list[int]:
    """The node and the camera of a demo that runs, or that has left them behind: both name its namespace."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile, or is no process
            if f"re2pix_demo_{demo}".encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_nothing_running(
    tiny: Bundle, drive_bag: Path, tmp_path: Path, which: signal.Signals
) -> None:
    process = start("-m", "re2pix_node.cli", "demo", "--bundle", tiny.path, "--drive", drive_bag, "--out", tmp_path)
    deadline = time.monotonic() + 60
    while len(children_of(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(which)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert error.splitlines()[-1] == "re2pix demo: stopped"
    assert children_of(process.pid) == []
    assert list(tmp_path.iterdir()) == []


def drawing(moments: list[VideoMoment], horizons: int = 3, shape: float = 0.5) -> DemoVideo:
    return DemoVideo(LABELS, [f"0.{18 * k} s" for k in range(1, horizons + 1)], moments, shape)


def moments(skill: tuple[float, ...] = (0.3, 0.2, -0.1), count: int = 50) -> list[VideoMoment]:
    return [VideoMoment(0.1 * i, skill, 40.0 + i) for i in range(count)]


def curve_pixels(sheet: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows of pixels of a colour below the legend of the charts."""
    return np.nonzero((sheet[-174:] == colour).all(axis=2))[0]


def test_pictures_have_a_row_of_their_own_below_the_others() -> None:
    red, green = (
        np.full((PANEL_WIDTH // 2, PANEL_WIDTH, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0))
    )
    video = DemoVideo(LABELS, ["0.18 s"], moments(), 0.5, pictures=True)
    panels = [Panel("camera", red)] * 3  # with the legend, four: two rows
    sheet = video.draw(0, panels, [], [Panel("camera", red), Panel("came", red), Panel("drawn", green)])
    row = CAPTION_HEIGHT + PANEL_WIDTH // 2 + GAP
    y = 2 * row + CAPTION_HEIGHT + PANEL_WIDTH // 4
    shown = [tuple(sheet[y, GAP + PANEL_WIDTH // 2 + i * (PANEL_WIDTH + GAP)]) for i in range(3)]
    assert shown == [(255, 0, 0), (255, 0, 0), (0, 255, 0)]
    # Before the first picture the row is there, and empty: a video has one size.
    assert video.draw(0, panels, []).shape == sheet.shape
    assert drawing(moments(), 1).draw(0, panels, []).shape[0] == sheet.shape[0] - row


def test_a_panel_shows_its_mask_over_a_grey_picture() -> None:
    red = np.full((PANEL_WIDTH // 2, PANEL_WIDTH, 3), (255, 0, 0), np.uint8)
    car = np.full((20, 40), 13, np.uint8)
    sheet = drawing(moments()).draw(0, [Panel("camera", red), Panel("now", red, car), Panel("later", None, car)], [])
    y = CAPTION_HEIGHT + PANEL_WIDTH // 4
    camera, now, later = (sheet[y, GAP + PANEL_WIDTH // 2 + i * (PANEL_WIDTH + GAP)] for i in range(3))
    assert tuple(camera) == (255, 0, 0)
    assert now[0] == now[1] < 60
    assert now[2] > 100
    assert later[2] > 70


@pytest.mark.parametrize(("horizons", "shape"), [(1, 0.5), (3, 0.5), (3, 0.57), (5, 0.75)])
def test_sheets_have_one_even_size_and_nothing_is_cut_off(horizons: int, shape: float) -> None:
    many = [VideoMoment(0.1 * i, (-1.0,) * horizons, 4321.0) for i in range(50)]
    video = drawing(many, horizons, shape)
    picture = np.zeros((round(PANEL_WIDTH * shape), PANEL_WIDTH, 3), np.uint8)
    panels = [Panel("expected in 10.53 s, over the true frame", picture)] * (horizons + 2)
    sheets = [video.draw(i, panels, ["a note"]) for i in (0, 20, 49)]
    assert len({sheet.shape for sheet in sheets}) == 1
    height, width, _ = sheets[0].shape
    assert (height % 2, width) == (0, WIDTH)
    # Text that is too long ends at the edge of its tile: the last columns must be empty.
    ground = sheets[0][-1, 0]
    skill_chart_end = GAP + round((WIDTH - 3 * GAP) * 0.66)
    for sheet in sheets:
        captions, charts = sheet[:CAPTION_HEIGHT], sheet[-GAP - CHART_HEIGHT : -GAP][:44]
        for band, right in ((captions, GAP + PANEL_WIDTH), (charts, skill_chart_end), (charts, WIDTH - GAP)):
            assert (band[:, right - 4 : right] == ground).all()


def test_the_skill_curve_grows_with_time() -> None:
    video = drawing(moments())
    colour = (240, 175, 60)
    drawn = [len(curve_pixels(video.draw(i, [Panel("camera", None)], []), colour)) for i in (5, 25, 49)]
    assert 0 < drawn[0] < drawn[1] < drawn[2]


def test_skill_that_is_not_measured_is_not_drawn() -> None:
    colour = (240, 175, 60)
    sheet = drawing(moments((NAN, 0.2, 0.1))).draw(49, [Panel("camera", None)], [])
    assert len(curve_pixels(sheet, colour)) == 0
    sheet = drawing(moments((NAN, NAN, NAN))).draw(49, [Panel("camera", None)], [])
    assert len(curve_pixels(sheet, (80, 200, 150))) == 0


def test_better_than_nothing_changes_lies_above_the_zero_line() -> None:
    sheet = drawing(moments((0.3, -0.15, 0.2))).draw(49, [Panel("camera", None)], [])
    zero = np.median(curve_pixels(sheet, (205, 208, 214)))
    assert np.median(curve_pixels(sheet, (240, 175, 60))) < zero < np.median(curve_pixels(sheet, (95, 190, 240)))
