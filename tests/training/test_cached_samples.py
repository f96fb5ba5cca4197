"""Samples out of the cache: by seed and step alone, and by weight."""

from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.errors import TrainingError
from re2pix_node.footage.label_space import CITYSCAPES, Group, LabelSpace
from re2pix_node.training.cached_samples import ForecastSamples, LabelledSamples, common_space
from re2pix_node.training.feature_cache import CachedClip
from re2pix_node.training.run_file import DataEntry
from tests.support.made_footage import SPEC

OWN = LabelSpace((3, 7), ("road", "heaven"))
ENTRY = DataEntry("x")


def made_clip(
    folder: Path, name: str, frames: int, space: LabelSpace = OWN, groups: tuple[Group, ...] = (), labels: int = 3
) -> CachedClip:
    """Features that are the number of their frame; labels of every second frame."""
    path = folder / name
    path.mkdir()
    np.save(
        path / "features.npy",
        np.ones((frames, 2, 4, 20), np.float16) * np.arange(frames, dtype=np.float16)[:, None, None, None],
    )
    np.save(path / "stamps.npy", np.arange(frames) * 180_000_000)
    np.save(path / "labelled.npy", np.arange(0, frames, 2))
    masks = np.full((len(range(0, frames, 2)), 4, 8), labels, np.uint8)
    masks[:, :, 0] = space.ids[-1]
    masks[:, 0] = 255
    np.save(path / "labels.npy", masks)
    return CachedClip(path, name, space, groups)


def test_samples_are_contexts_and_what_came_after(tmp_path: Path) -> None:
    samples = ForecastSamples([ENTRY], [[made_clip(tmp_path, "a", 12)]], SPEC, 0)
    chosen = samples.draw.random(1, 5)
    batch = samples.batch(chosen)
    assert batch.shape == (5, 7, 2, 4, 20)
    assert batch.dtype == torch.float16
    assert (batch[:, 1:] - batch[:, :-1] == 1).all()


def test_a_step_draws_the_same_again_and_another_step_others(tmp_path: Path) -> None:
    draw = ForecastSamples([ENTRY], [[made_clip(tmp_path, "a", 40)]], SPEC, 5).draw
    chosen = draw.random(3, 64)
    assert draw.random(3, 64) == chosen
    assert draw.random(4, 64) != chosen
    assert ForecastSamples([ENTRY], [[made_clip(tmp_path, "b", 40)]], SPEC, 6).draw.random(3, 64) != chosen


def test_weight_says_how_often_a_moment_is_seen(tmp_path: Path) -> None:
    clips = [[made_clip(tmp_path, "long", 106)], [made_clip(tmp_path, "none", 3), made_clip(tmp_path, "short", 16)]]
    draw = ForecastSamples([DataEntry("x"), DataEntry("y", weight=10)], clips, SPEC, 0).draw
    assert draw.counts.tolist() == [100, 0, 10]
    chosen = draw.random(1, 4000)
    assert {clip for clip, _ in chosen} == {0, 2}
    assert 0.46 < sum(clip == 2 for clip, _ in chosen) / 4000 < 0.54
    numbers = {number for clip, number in chosen if clip == 2}
    assert numbers == set(range(10))


def test_validation_spreads_evenly_and_covers_what_is_little(tmp_path: Path) -> None:
    clips = [[made_clip(tmp_path, "a", 10), made_clip(tmp_path, "none", 2), made_clip(tmp_path, "b", 12)]]
    draw = ForecastSamples([ENTRY], clips, SPEC, 0).draw
    everything = [(0, number) for number in range(4)] + [(2, number) for number in range(6)]
    assert draw.spread(1000) == everything
    assert draw.spread(10) == everything
    assert draw.spread(2) == [(0, 2), (2, 3)]


def test_footage_without_a_single_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^x: has no 4 frames 0.12 to 0.24 s apart with 3 more after them"):
        ForecastSamples([ENTRY], [[made_clip(tmp_path, "a", 6)]], SPEC, 0)


def test_labels_are_dense(tmp_path: Path) -> None:
    samples = LabelledSamples([ENTRY], [[made_clip(tmp_path, "a", 9)]], OWN, 0)
    assert samples.draw.counts.tolist() == [5]
    features, labels = samples.batch([(0, 4)])
    assert (features == 8).all()
    assert labels[0, 1].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert (labels[:, 0] == 255).all()


def test_own_classes_become_those_of_cityscapes_by_name_or_group(tmp_path: Path) -> None:
    by_name = made_clip(tmp_path, "a", 2)
    grouped = made_clip(tmp_path, "b", 2, groups=(Group("up", (7,), (10,)), Group("flat", (3,), (0, 1))))
    samples = LabelledSamples([ENTRY], [[by_name, grouped]], CITYSCAPES, 0)
    # "heaven" is no class of Cityscapes; "flat" may be any of two.
    assert samples.batch([(0, 0)])[1][0, 1].tolist() == [255] + [0] * 7
    assert samples.batch([(1, 0)])[1][0, 1].tolist() == [10] + [255] * 7


def test_classes_that_differ_are_refused_by_name(tmp_path: Path) -> None:
    one, other = made_clip(tmp_path, "a", 2), made_clip(tmp_path, "b", 2, LabelSpace((3,), ("lane",)))
    assert common_space([one, one]) == OWN
    with pytest.raises(TrainingError, match="a and b have different classes"):
        common_space([one, other])
    with pytest.raises(TrainingError, match="has no labels"):
        LabelledSamples([ENTRY], [[]], OWN, 0)
