"""Forecasts are believed less the further ahead they are; what has no labels is believed as what came before it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.nets.forecaster import HeadReader
from re2pix_node.nets.nano.forecaster import NanoForecaster
from re2pix_node.training.cached_samples import ForecastSamples
from re2pix_node.training.calibration import forecast_temperatures
from re2pix_node.training.feature_cache import CachedClip
from re2pix_node.training.nano.loss import nano_options
from tests.training.nano.test_loss import GRID, drifting_clip, spec_of
from tests.training.test_cached_samples import ENTRY, OWN


class Sign(torch.nn.Module):
    """Says the second class, and is sure of it, where the first channel is positive."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        first = 3 * features[..., 0]
        return torch.stack([-first, first], 1)


def labelled(clip: CachedClip, frames: np.ndarray) -> CachedClip:
    """With labels by the sign of the first channel."""
    seen = clip.features[frames][..., 0] > 0
    np.save(clip.path / "labelled.npy", frames)
    np.save(clip.path / "labels.npy", np.array(OWN.ids, np.uint8)[seen.astype(int)].repeat(2, 1).repeat(2, 2))
    return CachedClip(clip.path, clip.name, clip.space, clip.groups)


@pytest.fixture
def net(tmp_path: Path) -> NanoForecaster:
    torch.manual_seed(0)
    return NanoForecaster(nano_options(spec_of(tmp_path))).eval()


def test_what_is_often_wrong_is_believed_less(tmp_path: Path, net: NanoForecaster) -> None:
    clip = labelled(drifting_clip(tmp_path), np.arange(24))
    samples = ForecastSamples([ENTRY], [[clip]], spec_of(tmp_path).time, 0)
    now, near, far = forecast_temperatures(HeadReader(net, Sign()), spec_of(tmp_path).time, samples, OWN, 0.5)
    assert now == 0.5
    assert 1 < near < far


def test_labels_belong_to_the_moment_they_were_made_for(tmp_path: Path) -> None:
    clip = labelled(drifting_clip(tmp_path), np.array([4, 7]))
    samples = ForecastSamples([ENTRY], [[clip]], spec_of(tmp_path).time, 0)
    places = [(0, number) for number in range(int(samples.draw.counts[0]))]
    seen = [(place, k) for place in places for k, mask in enumerate(samples.labels(place, OWN)) if mask is not None]
    assert seen
    for place, k in seen:
        mask = samples.labels(place, OWN)[k]
        expected = samples.batch([place])[0, k, ..., 0] > 0
        np.testing.assert_array_equal(mask[::2, ::2], expected)
        assert mask.shape == (2 * GRID[0], 2 * GRID[1])


def test_without_labels_the_temperature_of_now_stands(tmp_path: Path, net: NanoForecaster) -> None:
    samples = ForecastSamples([ENTRY], [[drifting_clip(tmp_path)]], spec_of(tmp_path).time, 0)
    reader, time = HeadReader(net, Sign()), spec_of(tmp_path).time
    assert forecast_temperatures(reader, time, samples, OWN, 0.7) == [0.7, 0.7, 0.7]
