"""The scores of pictures, and the command on a run with almost no training."""

import importlib.util
import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from re2pix_node.bundle.manifest import TimeSpec
from re2pix_node.cli import main
from re2pix_node.commands import evaluate_pictures
from re2pix_node.evaluation.bootstrap import FEWEST
from re2pix_node.evaluation.fvd import FvdTally
from re2pix_node.evaluation.perceptual import NETWORKS, Lpips, psnr
from re2pix_node.evaluation.render_sheet import GAP, WIDTH, evenly, sheet
from re2pix_node.evaluation.rendering import ROWS, Future, RenderTally, add_future, figures, judge_clip
from re2pix_node.footage.clips import LabelSpace, Sample, open_clips
from tests.support import drive
from tests.support.fake_i3d import random_i3d
from tests.support.fake_lpips import write_weights
from tests.support.made_runs import HEIGHT, write_pictures
from tests.support.made_runs import WIDTH as RUN_WIDTH

TRUE, OTHER = drive.frame(0.0, 96, 64), drive.frame(1.0, 96, 64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("lpips") / "alexnet.ckpt", "alexnet")


def tallies(classes: int = 3) -> dict[str, RenderTally]:
    return {row: RenderTally(np.zeros((classes, classes + 1))) for row in ROWS}


def said(**pictures: np.ndarray) -> dict[str, np.ndarray]:
    """A picture for each row: if none is given, one that differs from the true picture."""
    return dict.fromkeys(ROWS, OTHER) | pictures


def values(scored: dict) -> dict[str, float]:
    return {name: score["value"] for name, score in scored.items()}


def test_each_row_is_counted_against_the_true_picture_and_its_segmentation(weights: Path) -> None:
    counted, lpips = tallies(), Lpips("alexnet", weights)
    true = np.zeros((2, 4), np.int64)
    true[:, 2:] = 2
    half = true.copy()
    half[0] = 0  # of the four cells of class 2, two are said to be class 0
    segmented = np.stack([true, *(true if row == "predicted" else half for row in ROWS)])
    add_future(counted, Future(0.5, TRUE, said(predicted=TRUE)), segmented, lpips)
    (horizon,) = figures([[counted]])
    right = {"psnr": 100, "ssim": 1, "lpips": 0, "miou": 1}
    wrong = {"psnr": psnr(OTHER, TRUE), "lpips": lpips(OTHER, TRUE), "miou": (4 / 6 + 2 / 4) / 2}
    assert values(horizon["rows"]["predicted"]) == pytest.approx(right)
    copied = values(horizon["rows"]["copy"])
    assert copied == pytest.approx(wrong | {"ssim": copied["ssim"]})
    for row in ("copy", "moved"):
        less = {name: right[name] - copied[name] for name in right}
        assert values(horizon["rendered less"][row]) == pytest.approx(less)
    assert horizon["rows"]["copy"]["psnr"]["low"] is None  # one clip says nothing of others


def test_clips_count_by_their_pictures_and_give_intervals(weights: Path) -> None:
    lpips, labels = Lpips("alexnet", weights), np.zeros((1 + len(ROWS), 2, 4), np.int64)
    short, long = tallies(), tallies()
    add_future(short, Future(0.5, TRUE, said(copy=TRUE, predicted=TRUE)), labels, lpips)
    for _ in range(3):
        add_future(long, Future(0.5, TRUE, said()), labels, lpips)
    (horizon,) = figures([[short], [long]] * (FEWEST // 2))
    predicted = horizon["rows"]["predicted"]["psnr"]
    assert predicted["value"] == pytest.approx((100 + 3 * psnr(OTHER, TRUE)) / 4)
    assert predicted["low"] < predicted["value"] < predicted["high"]
    # Clip by clip they are the same, however different clips are.
    assert set(horizon["rendered less"]["copy"]["psnr"].values()) == {0}
    assert horizon["rendered less"]["moved"]["psnr"]["high"] > 0


class Copier:
    """Takes a picture of the context for each future one; a sample's number for its seconds."""

    time = TimeSpec(3, 0.15, 0.12, 0.3, 0.02, (1, 2))
    space = LabelSpace((3, 7), ("ground", "air"))

    def fitted(self, frame: np.ndarray) -> np.ndarray:
        return frame[::2]

    def futures(self, moment: Sample, seed: int, only_last: bool) -> list[Future]:
        rows = [{"copy": self.fitted(said), "predicted": self.fitted(said)} for said in moment.context[:2]]
        made = [Future(seed, self.fitted(true), row) for true, row in zip(moment.future, rows, strict=True)]
        return made[-1:] if only_last else made

    def segmented(self, pictures: list[np.ndarray]) -> np.ndarray:
        return np.zeros((len(pictures), 2, 4), np.int64)


@pytest.mark.parametrize(("every", "count"), [(1, 4), (2, 2), (4, 1)])
def test_a_clip_is_judged_by_the_rows_there_are_and_shown_by_its_middle(
    every: int, count: int, weights: Path, tmp_path: Path
) -> None:
    (clip,) = open_clips(write_pictures(tmp_path, frames=8))
    videos: list = []

    def describe(given: list) -> np.ndarray:
        videos.append([[float(np.mean(picture)) for picture in video] for video in given])
        return np.zeros((len(given), 2))

    tally = judge_clip(Copier(), Lpips("alexnet", weights), clip, every, False, FvdTally(describe))
    assert tally.samples == count
    assert tally.middle.seconds == count // 2
    assert [list(rows) for rows in tally.horizons] == [["copy", "predicted"]] * 2
    assert tally.horizons[0]["copy"].sums[-1] == count
    # In time order: the context, then the true future, or the pictures of a row in its place.
    seen = [float(np.mean(frame[::2])) for frame in clip.frames(range(5))]
    assert videos[0] == [seen, seen[:3] + seen[:2], seen[:3] + seen[:2]]
    assert len(videos) == count


def words(run: Path, weights: Path, *more: object) -> list[str]:
    given = ["evaluate-pictures", run, "--data", run.parent / "val", "--lpips-weights", weights, *more]
    return [str(word) for word in given]


def test_the_command_scores_a_run_and_shows_its_pictures(
    trained_run: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.save(random_i3d(), tmp_path / "i3d.pt")
    files = ["--json", tmp_path / "f.json", "--sheet", tmp_path / "s.png", "--i3d", tmp_path / "i3d.pt"]
    typed = words(trained_run, weights, "--every", 2, *files)
    monkeypatch.setattr("sys.argv", ["/somewhere/re2pix", *typed])
    assert main() == 0
    told = capsys.readouterr().out
    assert "1 clips, 2 samples" in told
    assert all(told.count(f"{text}  ") == 3 for text in ROWS.values())  # two horizons, and the videos
    assert all(told.count(f"rendered less the newest {text}  ") == 2 for text in ("picture", "moved on"))
    assert "2 videos of 5 pictures, each shown 2 times" in told
    assert "note: 2 videos are too few for the covariance of 400 features" in told
    result = json.loads((tmp_path / "f.json").read_text())
    assert shlex.split(result["command"]) == ["re2pix", *typed]
    assert len(result["horizons"]) == 2
    second = result["horizons"][1]["rows"]
    copied, moved, drawn, predicted = (second[row] for row in ("copy", "moved", "drawn", "predicted"))
    assert moved["psnr"]["value"] != copied["psnr"]["value"]
    assert len({row["lpips"]["value"] for row in (moved, drawn, predicted)}) == 3
    assert 0 < predicted["miou"]["value"] <= 1
    assert list(result["fvd"]["rows"]) == list(ROWS)
    assert all(value > 0 for value in result["fvd"]["rows"].values())
    shown = cv2.imread(str(tmp_path / "s.png"))
    assert shown.shape[1:] == (4 * (RUN_WIDTH + GAP) - GAP, 3)
    assert HEIGHT < shown.shape[0] < 2 * HEIGHT

    assert (
        main(words(trained_run, weights, "--every", 2, "--last", "--sampling", 2, "--json", tmp_path / "last.json"))
        == 0
    )
    assert "last horizon" in capsys.readouterr().out
    last = json.loads((tmp_path / "last.json").read_text())
    assert last["horizons"][0]["rows"]["copy"] == second["copy"]
    assert last["horizons"][0]["rows"]["predicted"] != second["predicted"]
    assert "fvd" not in last


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--every", 0], "--every must be at least 1, is 0"),
        (["--lines", 0], "--lines must be at least 1, is 0"),
        (["--i3d", "i3d.pt", "--last"], "--i3d scores videos, of all horizons: leave --last or --i3d out"),
        (["--sheet", "sheet.gif"], "sheet.gif: a sheet must end in one of .jpg .jpeg .png"),
        (["--json", "nowhere/f.json"], "nowhere/f.json: the folder nowhere does not exist: create it first"),
        (["--i3d", "none.pt"], "none.pt: there is no such file"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_read(
    more: list, said: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, weights, *more)) == 2
    assert capsys.readouterr().err == f"re2pix evaluate-pictures: {said}\n"


def test_a_folder_without_a_run_is_one_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path, weights)) == 2
    assert "is not a run" in capsys.readouterr().err


def test_what_training_needs_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    assert main(words(tmp_path, tmp_path)) == 2
    said = capsys.readouterr().err.strip()
    assert said == (
        "re2pix evaluate-pictures: needs torch, which the node does not: pip install -r requirements/train.txt"
    )


def test_the_command_offers_all_networks_of_lpips() -> None:
    assert tuple(NETWORKS) == evaluate_pictures.LPIPS


def test_a_sheet_keeps_to_its_width_and_has_a_line_for_each_clip() -> None:
    large = np.full((224, 448, 3), (200, 30, 60), np.uint8)
    made = sheet([(name, dict.fromkeys("abcd", large)) for name in ("one", "two")])
    assert WIDTH - 4 * GAP < made.shape[1] <= WIDTH
    red = (made == (200, 30, 60)).all(2)
    columns, rows = (np.flatnonzero(np.diff(red.any(axis).astype(int), prepend=0) > 0) for axis in (0, 1))
    assert (len(columns), len(rows)) == (4, 2)
    assert (made[:, red.any(0)][~red.any(1)] == 0).any()  # captions, in black


@pytest.mark.parametrize(
    ("count", "chosen"), [(None, [0, 1, 2, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5]), (3, [1, 3, 5]), (2, [1, 4]), (1, [3])]
)
def test_the_lines_of_a_sheet_are_evenly_chosen(count: int | None, chosen: list[int]) -> None:
    assert evenly(range(6), count) == chosen
