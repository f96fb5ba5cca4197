"""Masks in every engine: a pixel whose logits are not finite is unlabelled."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from re2pix_node.engines.registry import runtimes
from re2pix_node.nets.masks import ChanceMasks, Masks
from re2pix_node.nets.onnx_export import exported

HERE = [(r, p) for r in runtimes() if r.load_graph for p in r.precisions()]
CASES = [np.nan, np.inf, -np.inf]


def logits() -> np.ndarray:
    """Three moments of one bad pixel each, in the class that would win, would lose, or is alone."""
    values = np.random.default_rng(3).normal(0, 3, (3, 5, 4, 6)).astype(np.float32)
    for moment, bad in enumerate(CASES):
        values[moment, moment, 1, 2] = bad
    return values


class OfChances(nn.Module):
    def __init__(self, ids: list[int], size: tuple[int, int]) -> None:
        super().__init__()
        self.masks = ChanceMasks(size, [1.0, 1.0, 1.0])

    def forward(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.masks(logits.softmax(1), logits.sum(1, keepdim=True))


@functools.cache
def graph_of(kind: type, ids: tuple[int, ...], size: tuple[int, int]) -> bytes:
    """Exported once for all engines, which takes a second."""
    example = torch.from_numpy(np.abs(np.nan_to_num(logits())))
    return exported(kind(list(ids), size), {"logits": example}, ["labels", "confidence"]).SerializeToString()


@pytest.mark.parametrize("kind", [Masks, OfChances])
@pytest.mark.parametrize("ids", [(0, 1, 2, 3, 4), (7, 2, 200, 4, 9)], ids=["indices", "others"])
@pytest.mark.parametrize("size", [(4, 6), (8, 12)], ids=["same size", "enlarged"])
@pytest.mark.parametrize(("runtime", "precision"), HERE, ids=lambda part: getattr(part, "name", part))
def test_pixels_that_are_not_finite_are_unlabelled(runtime, precision: str, size, ids, kind) -> None:
    masks = kind(list(ids), size)
    given = logits()
    found = runtime.load_graph(graph_of(kind, ids, size), precision, 2).run({"logits": given})
    with torch.inference_mode():
        wanted = [tensor.numpy() for tensor in masks(torch.from_numpy(given))]
    bad = wanted[0] == 255
    assert bad.any(axis=(1, 2)).all()  # each kind
    assert bad.mean() < 0.5
    np.testing.assert_array_equal(found["labels"] == 255, bad)
    assert (found["confidence"][bad] == 0).all()
    assert (found["confidence"][~bad] > 0).all()
    if precision == "fp32":
        np.testing.assert_array_equal(found["labels"], wanted[0])


def test_a_power_reduces_the_confidence_of_chances() -> None:
    chances = torch.tensor([[[[0.5, 0.9]], [[0.5, 0.1]]], [[[0.2, 0.1]], [[0.8, 0.9]]]])
    labels, confidence = ChanceMasks((1, 2), [1.0, 2.0])(chances, torch.zeros(2, 1, 1, 2))
    assert labels.tolist() == [[[0, 0]], [[1, 1]]]
    assert confidence.tolist() == [[[128, 230]], [[163, 207]]]


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_a_temperature_is_above_zero_and_finite(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperatures must be above 0 and finite"):
        Masks([0, 1], (2, 2), [1.0, temperature])
