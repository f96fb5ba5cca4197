"""A small run: a backbone with random weights, a drive of a few seconds as pictures, and labels of its own classes."""

from pathlib import Path

import numpy as np
import torch
import yaml

from re2pix_node.cli import main
from re2pix_node.nets.backbones.mobilesam import PREFIX, MobileSamEncoder
from re2pix_node.training.run_folder import STEPS
from tests.support import drive
from tests.support.made_footage import write_png

WIDTH, HEIGHT = 128, 64
CLASSES = {3: "ground", 7: "air"}
SMALL_NANO = {"hidden": 24, "depth": 1, "heads": 2, "motion_hidden": 16, "motion_depth": 1}
QUICK = {"steps": 4, "batch": 4, "val_every": 2, "val_batches": 2}
SMALL_VAE = {**QUICK, "crop": 32, "model": {"width": 8, "latents": 4}}
SMALL_RENDERER = {**QUICK, "sampling": 1, "model": {"hidden": 16, "depth": 1, "heads": 2}}
SMALL_FINISHER = {**QUICK, "crop": 32, "model": {"width": 8, "coarse": 8, "blocks": 1}}
PICTURE_STEPS = {"vae": SMALL_VAE, "renderer": SMALL_RENDERER, "finisher": SMALL_FINISHER}


def write_weights(file: Path) -> Path:
    """As the published file is laid out."""
    torch.manual_seed(11)
    torch.save({PREFIX + name: tensor for name, tensor in MobileSamEncoder().state_dict().items()}, file)
    return file


def own_mask(picture: np.ndarray) -> np.ndarray:
    """What is above the middle is air."""
    mask = np.full(picture.shape[:2], 3, np.uint8)
    mask[: len(mask) // 2] = 7
    mask[:, :4] = 255
    return mask


def write_pictures(folder: Path, frames: int = 14, rate: float = 7.0, start: float = 0.0, labelled: int = 2) -> Path:
    """A folder of frames, every `labelled`-th of them with labels."""
    for number in range(frames):
        picture = drive.frame(start + number / rate, WIDTH, HEIGHT)
        write_png(folder / f"frames/{number:03d}.png", picture)
        if number % labelled == 0:
            write_png(folder / f"labels/{number:03d}.png", own_mask(picture))
    settings = {"rate": rate, "images": "frames", "labels": "labels", "classes": CLASSES}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(settings))
    return folder


def run_fields(footage: Path = Path()) -> dict:
    """Of a run from what `make_footage` has made in a folder; as a rule the folder of the run file."""
    quick = {"steps": 6, "batch": 4, "val_every": 3, "val_batches": 2}
    return {
        "name": "small",
        "backbone": {"weights": str(footage / "weights.pt"), "height": HEIGHT, "width": WIDTH},
        "time": {
            "context": 3,
            "stride": 0.15,
            "stride_min": 0.12,
            "stride_max": 0.3,
            "jitter": 0.02,
            "horizons": [1, 2],
        },
        "data": {"train": [{"path": str(footage / "drive")}], "val": [{"path": str(footage / "val")}]},
        "pca": {"channels": 12, "frames": 6},
        "forecaster": {**quick, "model": SMALL_NANO},
        "head": {**quick, "labels": "data", "learning_rate": 0.01, "model": {"width": 16}},
    }


def write_run(file: Path, footage: Path = Path(), **changes: object) -> Path:
    file.write_text(yaml.safe_dump({**run_fields(footage), **changes}))
    return file


def make_footage(folder: Path) -> None:
    """All that `run_fields` names."""
    write_weights(folder / "weights.pt")
    write_pictures(folder / "drive")
    write_pictures(folder / "val", frames=8, start=5.0)


def make_trained_run(folder: Path) -> None:
    """A run with every step, made by the commands, in `run`; its footage beside it."""
    make_footage(folder)
    file = write_run(folder / "run.yaml", **PICTURE_STEPS)
    for step in STEPS:
        assert main(["train", step, str(file), "-o", str(folder / "run")]) == 0
