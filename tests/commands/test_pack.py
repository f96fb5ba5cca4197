"""A training that travels: pack, train --pack, export --pack, and what they refuse."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from re2pix_node.bundle.reader import read_bundle
from re2pix_node.cli import main
from re2pix_node.nets.backbones.mobilesam import PREFIX, MobileSamEncoder
from tests.training.mover.worlds import sideways

FRAMES = 100


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like mobile_sam.pt, with random content."""
    path = tmp_path_factory.mktemp("backbone") / "mobile_sam.pt"
    torch.manual_seed(0)
    torch.save({f"{PREFIX}{name}": tensor for name, tensor in MobileSamEncoder().state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("footage")
    video = cv2.VideoWriter(str(path / "street.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 20, (64, 32))
    for step in range(60):
        video.write(np.full((32, 64, 3), step, np.uint8))
    video.release()
    return path


def test_words_that_do_not_belong_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pack = str(tmp_path / "pack")
    assert "needs a step (pca, " in refusal(capsys, "train")
    assert "leave out pca" in refusal(capsys, "train", "--pack", pack, "pca", "run.yaml", "-o", "x")
    assert "needs --minutes" in refusal(capsys, "train", "--pack", pack, "-o", str(tmp_path / "out"))
    assert "encoder.pt: cannot be read" in refusal(
        capsys, "train", "--pack", pack, "--minutes", "1", "--drives", pack, "-o", str(tmp_path / "out")
    )
    assert "--pack needs --drives" in refusal(capsys, "export", pack, "--pack", pack, "-o", str(tmp_path / "new"))
    assert not list(tmp_path.iterdir())


def test_a_pack_needs_videos_and_an_encoder_that_is_known(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, footage: Path, weights: Path, tiny
) -> None:
    made = ["-o", str(tmp_path / "pack"), "--weights", str(weights)]
    assert "has no .mp4 file" in refusal(capsys, "pack", str(tmp_path), *made)
    assert "encode graph has no" in refusal(capsys, "pack", str(footage), "--bundle", str(tiny.path), *made)
    assert not list(tmp_path.iterdir())
    assert main(["pack", str(footage), *made]) == 0
    assert {file.name for file in (tmp_path / "pack").rglob("*")} == {"encoder.pt", "real", "street.mp4"}
    assert "exists already" in refusal(capsys, "pack", str(footage), *made)
    torch.save({"backbone": {}}, tmp_path / "pack" / "encoder.pt")
    assert "write the pack again" in refusal(
        capsys, "train", "--pack", str(tmp_path / "pack"), "--minutes", "1", "--drives", "x", "-o", str(tmp_path / "o")
    )


@pytest.mark.long  # encodes a few hundred frames on the CPU
def test_from_footage_to_a_bundle(tmp_path: Path, footage: Path, weights: Path) -> None:
    assert main(["pack", str(footage), "--weights", str(weights), "-o", str(tmp_path / "pack")]) == 0
    small = sideways(FRAMES)
    maps = {name: np.kron(getattr(small, name), np.ones((7, 7))) for name in ("labels", "depth", "instances")}
    wide = {name: array.astype(getattr(small, name).dtype) for name, array in maps.items()}
    drive = replace(small, pictures=np.zeros((FRAMES, 224, 448, 3), np.uint8), **wide)
    (tmp_path / "drives").mkdir()
    for number in range(2):
        drive.save(tmp_path / "drives" / f"{number:06d}.npz")
    words = ["--minutes", "0.5", "--held", "1", "--frames", "100", "--real-frames", "60", "--batch", "1", "0", "1", "1"]
    given = ["--pack", str(tmp_path / "pack"), "--drives", str(tmp_path / "drives")]
    assert main(["train", *given, *words, "-o", str(tmp_path / "out")]) == 0
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["samples"] > 0
    assert len(log[-1]["gap"]) == 3
    assert not list((tmp_path / "drives").iterdir())  # read and deleted
    drive.save(tmp_path / "drives" / "000003.npz")
    assert main(["export", str(tmp_path / "out"), *given, "--version", "9", "-o", str(tmp_path / "new")]) == 0
    assert read_bundle(tmp_path / "new").manifest.version == "9"
