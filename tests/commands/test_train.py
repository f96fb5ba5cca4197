"""From pictures with custom labels to a bundle that predicts those labels, with the commands of docs/train.md."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.cli import main
from re2pix_node.engines.session import open_engine
from re2pix_node.footage.label_space import LabelSpace
from re2pix_node.pipeline.pipeline import Pipeline
from re2pix_node.training.export import _classes, _frames
from re2pix_node.training.run_file import read_run_file
from re2pix_node.training.stored import read_stored
from tests.support import drive
from tests.support.exported_once import encoder_exported_once
from tests.support.made_runs import (
    CLASSES,
    HEIGHT,
    PICTURE_STEPS,
    WIDTH,
    own_mask,
    run_fields,
    write_pictures,
    write_run,
)


@pytest.fixture(scope="module")
def folder(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run, to be changed, and room beside it."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(trained_run, folder / "run")
    return folder


def test_every_step_leaves_its_result_and_is_not_done_twice(
    trained_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: folder / "run" / name for name in ("basis.npz", "head/checkpoint.pt", "forecaster/checkpoint.pt")}
    before = {name: file.stat().st_mtime_ns for name, file in files.items()}
    for step, said in (("pca", "12 of 288 channels keep"), ("head", "mIoU"), ("forecaster", "SmoothL1 is")):
        assert main(["train", step, str(trained_run.parent / "run.yaml"), "-o", str(folder / "run")]) == 0
        shown = capsys.readouterr()
        assert said in shown.out
        assert "encoding" not in shown.err
    assert {name: file.stat().st_mtime_ns for name, file in files.items()} == before


@pytest.mark.long  # learns until the labels are right, and exports
def test_own_labels_become_a_bundle_that_says_them(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run takes features and forecaster from the first and trains only a head."""
    write_pictures(folder / "mine", frames=12, start=2.0, labelled=1)
    head = {"labels": "data", "steps": 60, "batch": 8, "learning_rate": 0.02, "val_every": 60, "val_batches": 2}
    fields = {
        "name": "mine",
        "base": "run",
        "data": {"train": [{"path": "mine"}]},
        "head": {**head, "model": {"width": 32}, "moving": ["air"]},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(fields))
    assert main(["train", "head", str(folder / "mine.yaml"), "-o", str(folder / "mine-run")]) == 0
    assert "on the training footage, because there is no data.val" in capsys.readouterr().out
    bundle_folder = folder / "bundle"
    arguments = ["--name", "own-labels", "--version", "3", "--licence", "MIT", "--description", "Air and ground."]
    with encoder_exported_once(tmp_path_factory):
        assert main(["export", str(folder / "mine-run"), "-o", str(bundle_folder), *arguments]) == 0

    manifest = read_bundle(bundle_folder).manifest
    assert (manifest.name, manifest.version, manifest.licence) == ("own-labels", "3", "MIT")
    assert {c.id: (c.name, c.moving) for c in manifest.labels.classes} == {3: ("ground", False), 7: ("air", True)}
    assert [p.licence for p in manifest.provenance] == ["Apache-2.0", "MIT"]
    assert {score.metric for score in manifest.scores} >= {"miou of now", "ece of now"}
    assert main(["check", str(bundle_folder)]) == 0

    engine, attempts = open_engine(read_bundle(bundle_folder), "onnxruntime", "fp32")
    assert attempts[-1].proof is not None
    assert attempts[-1].proof.relative_l2 < 1e-3
    pipeline = Pipeline(read_bundle(bundle_folder), engine)
    forecast = None
    for i in range(8):
        forecast = pipeline.observe(drive.frame(2.0 + i / 7, WIDTH, HEIGHT), i * 10**9 // 7).forecast or forecast
    assert forecast is not None
    labels = forecast.labels[0]
    assert labels.shape == (3, HEIGHT // 4, WIDTH // 4)
    assert set(np.unique(labels).tolist()) == set(CLASSES)
    truth = own_mask(drive.frame(2.0, WIDTH, HEIGHT))[2::4, 2::4]
    known = truth != 255
    assert (labels[0] == truth)[known].mean() > 0.9
    assert read_stored(folder / "mine-run/head/weights.pt")["temperature"] != 1


def test_classes_get_colours_that_differ_and_cityscapes_its_own() -> None:
    names = ("car", "Traffic_Light", "forklift", "rack", "pallet")
    made = _classes(LabelSpace((1, 2, 4, 8, 9), names), ("forklift",))
    assert [c.color for c in made[:2]] == [(0, 0, 142), (250, 170, 30)]
    assert len({c.color for c in made}) == 5
    assert [c.moving for c in made] == [True, False, True, False, False]


def test_without_its_footage_a_run_is_proved_on_drawn_frames(tmp_path: Path) -> None:
    frames = _frames(read_run_file(write_run(tmp_path / "run.yaml")))
    assert frames.shape == (3, HEIGHT, WIDTH, 3)
    assert (frames[0] != frames[1]).any()


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    return line


def test_what_is_missing_is_one_line_with_the_command(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(write_run(tmp_path / "again.yaml"))
    line = refusal(capsys, "train", "head", run, "-o", str(tmp_path / "new"))
    assert "basis.npz: is missing: make it first: re2pix train pca" in line
    line = refusal(capsys, "export", str(tmp_path / "nothing"), "-o", str(tmp_path / "bundle"))
    assert "is not a run, it has no run.yaml" in line
    line = refusal(capsys, "export", str(trained_run), "-o", str(tmp_path))
    assert "exists already: choose another name, or replace it with --force" in line


def test_changed_settings_are_refused_and_force_starts_again(
    trained_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = {**run_fields()["head"], "steps": 2}
    other = str(write_run(folder / "other.yaml", trained_run.parent, **{**PICTURE_STEPS, "head": quick}))
    assert "head.steps differs" in refusal(capsys, "train", "head", other, "-o", str(folder / "run"))
    assert main(["train", "head", other, "-o", str(folder / "run"), "--force"]) == 0
    assert read_stored(folder / "run/head/checkpoint.pt")["step"] == 2


def test_without_pytorch_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "accelerate" else find(name))
    line = refusal(capsys, "train", "pca", str(tmp_path / "run.yaml"), "-o", str(tmp_path / "out"))
    assert line == "re2pix train: needs accelerate, which the node does not: pip install -r requirements/train.txt"
