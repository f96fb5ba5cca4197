"""The judge of pictures: what it counts, and the command on a run that has learnt next to nothing."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from re2pix_node.cli import main
from re2pix_node.evaluation.perceptual import Lpips, psnr
from re2pix_node.evaluation.render_command import main as judge
from re2pix_node.evaluation.rendering import ROWS, Future, RenderTally, add_future, figures
from tests.evaluation.fake_lpips import write_weights
from tests.helpers import drive
from tests.training.made_runs import HEIGHT, WIDTH, make_footage, write_run
from tests.training.test_renderer import SMALL_RENDERER, SMALL_VAE

TRUE, OTHER = drive.frame(0.0, 96, 64), drive.frame(1.0, 96, 64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("lpips") / "alexnet.ckpt", "alexnet")


def tallies(classes: int = 3) -> dict[str, RenderTally]:
    return {row: RenderTally(np.zeros((classes, classes + 1))) for row in ("right", "wrong")}


def test_each_row_is_counted_against_the_true_picture_and_its_segmentation(weights: Path) -> None:
    counted, lpips = tallies(), Lpips("alexnet", weights)
    true = np.zeros((2, 4), np.int64)
    true[:, 2:] = 2
    half = true.copy()
    half[0] = 0  # of the four cells of class 2, two are said to be class 0
    add_future(counted, Future(0.5, TRUE, {"right": TRUE, "wrong": OTHER}), np.stack([true, true, half]), lpips)
    (rows,) = figures([[counted]])
    assert {name: score["value"] for name, score in rows["right"].items()} == pytest.approx(
        {"psnr": 100, "ssim": 1, "lpips": 0, "miou": 1}
    )
    assert rows["wrong"]["psnr"]["value"] == pytest.approx(psnr(OTHER, TRUE))
    assert rows["wrong"]["lpips"]["value"] == pytest.approx(lpips(OTHER, TRUE))
    assert rows["wrong"]["miou"]["value"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert rows["wrong"]["psnr"]["low"] is None  # one clip says nothing of others


def test_clips_count_by_their_pictures_and_give_intervals(weights: Path) -> None:
    lpips, labels = Lpips("alexnet", weights), np.zeros((3, 2, 4), np.int64)
    short, long = tallies(), tallies()
    add_future(short, Future(0.5, TRUE, {"right": TRUE, "wrong": OTHER}), labels, lpips)
    for _ in range(3):
        add_future(long, Future(0.5, TRUE, {"right": OTHER, "wrong": OTHER}), labels, lpips)
    (rows,) = figures([[short], [long]])
    right = rows["right"]["psnr"]
    assert right["value"] == pytest.approx((100 + 3 * psnr(OTHER, TRUE)) / 4)
    assert right["low"] < right["value"] < right["high"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    make_footage(folder)
    write_run(folder / "run.yaml", vae=SMALL_VAE, renderer=SMALL_RENDERER)
    for step in ("pca", "head", "forecaster", "vae", "renderer"):
        assert main(["train", step, str(folder / "run.yaml"), "-o", str(folder / "run")]) == 0
    return folder / "run"


def test_the_command_scores_a_run_and_shows_its_pictures(
    run: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), "--data", str(run.parent / "val"), "--every", "2", "--lpips-weights", str(weights)]
    files = ["--json", str(tmp_path / "f.json"), "--sheet", str(tmp_path / "s.png")]
    assert judge([*words, *files]) == 0
    said = capsys.readouterr().out
    assert "1 clips" in said
    assert all(text[:40] in said for text in ROWS.values())
    result = json.loads((tmp_path / "f.json").read_text())
    assert len(result["horizons"]) == 2
    copied, moved, predicted = (result["horizons"][1][row] for row in ("copy", "moved", "predicted"))
    assert moved["psnr"]["value"] != copied["psnr"]["value"]
    assert predicted["lpips"]["value"] != moved["lpips"]["value"]
    assert 0 < predicted["miou"]["value"] <= 1
    sheet = cv2.imread(str(tmp_path / "s.png"))
    assert sheet.shape == (HEIGHT + 22, 4 * (WIDTH + 4), 3)

    assert judge([*words, "--last", "--sampling", "1", "--json", str(tmp_path / "last.json")]) == 0
    last = json.loads((tmp_path / "last.json").read_text())
    assert last["horizons"][0]["copy"] == result["horizons"][1]["copy"]
    assert last["horizons"][0]["predicted"] != result["horizons"][1]["predicted"]


def test_what_is_missing_is_one_line(
    run: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge([str(tmp_path), "--data", str(run.parent / "val"), "--lpips-weights", str(weights)]) == 2
    assert "is no run" in capsys.readouterr().err
    assert judge([str(run), "--data", str(run.parent / "val"), "--every", "0"]) == 2
    assert "must be at least 1" in capsys.readouterr().err
