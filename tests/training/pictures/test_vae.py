"""The step vae: parts of pictures, what an autoencoder learns from them, and one that is given."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from re2pix_node.cli import main
from re2pix_node.errors import TrainingError
from re2pix_node.footage.clips import open_clips
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.nets.backbones.mobilesam import MobileSamEncoder
from re2pix_node.training.pictures.vae import Crops, VaeTask, initial_vae
from tests.support.made_runs import HEIGHT, SMALL_VAE, WIDTH, write_pictures, write_run
from tests.training.pictures.test_renderer import numbered, small_kl, spec_of


def test_crops_are_parts_of_frames_drawn_by_seed_and_step() -> None:
    crops = Crops([numbered(10), numbered(20, 100)], [1.0, 1.0], 16, seed=4)
    cut = crops.random(1, 300)
    assert cut.shape == (300, 16, 16, 3)
    assert (cut[:, 1:, :, 1] - cut[:, :-1, :, 1] == 1).all()
    assert (cut[:, :, 1:, 2] - cut[:, :, :-1, 2] == 1).all()
    assert cut[:, 0, 0, 1].max() == HEIGHT - 16
    assert cut[:, 0, 0, 1].min() == 0
    assert len(np.unique(cut[:, 0, 0, 0])) > 25
    assert (crops.random(1, 300) == cut).all()
    assert (crops.random(2, 300) != cut).any()
    assert [tuple(frame.shape) for frame in crops.spread(3)] == [(1, HEIGHT, WIDTH, 3)] * 3


def test_the_autoencoder_learns_and_knows_its_latents(tmp_path: Path) -> None:
    write_pictures(tmp_path / "drive")
    frames = open_clips(tmp_path / "drive")[0].frames(range(14))
    pictures = np.stack([fit_frame(frame, HEIGHT, WIDTH, "crop")[0] for frame in frames])
    torch.manual_seed(0)
    spec = spec_of(tmp_path, vae={"batch": 8, "noise": 0.1})
    crops = Crops([pictures], [1.0], spec.vae.crop, 0)
    task = VaeTask(spec, crops, crops, MobileSamEncoder().eval().requires_grad_(False))

    begun = task.judged()
    optimizer = torch.optim.Adam(task.model.parameters(), 5e-3)
    for step in range(60):
        loss, figures = task.model(**task.batch(step, 0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert set(figures) == {"pixels", "looks", "size"}
    assert task.judged()["psnr"] > begun["psnr"] + 3
    assert task.judged()["looks"] < begun["looks"]
    task.normalise()
    with torch.no_grad():
        latents = torch.cat(
            [
                task.model.net.encode(batch["pictures"].permute(0, 3, 1, 2) / 127.5 - 1)
                for batch in task.val_batches(0, 1)
            ]
        )
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=0.2, rtol=0)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=0.2, rtol=0)


def test_the_autoencoder_learns_where_its_pictures_are(tmp_path: Path) -> None:
    """As on a GPU: tensors without memory do not mix with those of the CPU either."""
    spec = spec_of(tmp_path)
    crops = Crops([numbered(4)], [1.0], spec.vae.crop, 0)
    task = VaeTask(spec, crops, crops, MobileSamEncoder().eval().requires_grad_(False))
    model, batch = task.model.to("meta"), {"pictures": crops.random(1, 2).to("meta")}
    assert task.measure(model, batch)["looks"].is_meta
    assert model(**batch)[0].is_meta


def test_parts_larger_than_the_picture_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run.yaml", vae={**SMALL_VAE, "crop": HEIGHT + 8})
    assert main(["train", "vae", str(run), "-o", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"re2pix train: small: vae.crop: must be at most {HEIGHT}, is {HEIGHT + 8}\n"


def test_an_autoencoder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    small_kl((8, 8)).save_pretrained(tmp_path / "flat")
    with pytest.raises(TrainingError, match="flat: has 2 pixels a latent, must have 8"):
        initial_vae(spec_of(tmp_path, vae={"pretrained": "flat"}))
    with pytest.raises(TrainingError, match="nothing: no autoencoder of diffusers can be read"):
        initial_vae(spec_of(tmp_path, vae={"pretrained": "nothing"}))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text(json.dumps({"_class_name": "VQModel"}))
    with pytest.raises(TrainingError, match="other: is of the kind VQModel; known are AutoencoderTiny, AutoencoderKL"):
        initial_vae(spec_of(tmp_path, vae={"pretrained": "other"}))


def without_decoder(folder: Path) -> None:
    small_kl((8, 8, 8, 8)).save_pretrained(folder)
    (file,) = folder.glob("*.safetensors")
    save_file({name: tensor for name, tensor in load_file(file).items() if not name.startswith("decoder.")}, file)


def of_four_channels(folder: Path) -> None:
    small_kl((8, 8, 8, 8), in_channels=4, out_channels=4).save_pretrained(folder)


def of_other_channels_back(folder: Path) -> None:
    small_kl((8, 8, 8, 8), in_channels=3, out_channels=12).save_pretrained(folder)


def with_config(folder: Path, config: object) -> None:
    small_kl((8, 8)).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (without_decoder, r"lacks \d+ weights, decoder\.conv_in\.bias is the first"),
        (of_four_channels, r"takes 4 channels and gives 4: must be 3 \* n \* n both ways"),
        (of_other_channels_back, "takes 3 channels and gives 12: "),
        (lambda folder: with_config(folder, []), "is of the kind None; known are"),
        (
            lambda folder: with_config(folder, {"_class_name": "AutoencoderKL", "block_out_channels": 3}),
            "no autoencoder of diffusers can be read from it .*subscriptable",
        ),
    ],
)
def test_a_damaged_or_foreign_autoencoder_is_told_in_one_line(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "given")
    with pytest.raises(TrainingError, match=rf"/given: {message}") as caught:
        initial_vae(spec_of(tmp_path, vae={"pretrained": "given"}))
    assert "\n" not in str(caught.value)
