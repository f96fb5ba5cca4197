"""The forecaster's task: it begins with the motion it sees, and learns from there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.errors import TrainingError
from re2pix_node.nets.features import CARRIED
from re2pix_node.nets.light_head import LightHead
from re2pix_node.training.cached_samples import ForecastSamples
from re2pix_node.training.feature_cache import CachedClip
from re2pix_node.training.forecast_task import ForecastTask
from re2pix_node.training.nano.loss import NanoLoss, nano_options
from re2pix_node.training.run_file import RunFile, read_run_file
from tests.support.made_runs import HEIGHT, WIDTH, run_fields, write_run
from tests.training.test_cached_samples import ENTRY, OWN

CHANNELS = 12
GRID = HEIGHT // 8, WIDTH // 8


def drifting_clip(folder: Path, frames: int = 24) -> CachedClip:
    """A pattern that moves one cell to the right each frame."""
    rng = np.random.default_rng(0)
    wide = rng.normal(0, 1, (GRID[0], GRID[1] + frames, CHANNELS + CARRIED)).astype(np.float16)
    features = np.stack([wide[:, frames - i : frames - i + GRID[1]] for i in range(frames)])
    np.save(folder / "features.npy", features)
    np.save(folder / "stamps.npy", np.arange(frames) * 150_000_000)
    np.save(folder / "labelled.npy", np.zeros(0, np.int64))
    return CachedClip(folder, "drift", OWN, ())


def spec_of(folder: Path, **forecaster: object) -> RunFile:
    fields = run_fields()["forecaster"]
    return read_run_file(write_run(folder / "run.yaml", forecaster={**fields, **forecaster}))


def task_of(folder: Path, head: torch.nn.Module | None = None, **forecaster: object) -> ForecastTask:
    spec = spec_of(folder, **forecaster)
    samples = ForecastSamples([ENTRY], [[drifting_clip(folder)]], spec.time, 0)
    torch.manual_seed(0)
    return ForecastTask(spec, samples, samples, NanoLoss(spec, head))


def figures(task: ForecastTask) -> dict[str, float]:
    sums = task.empty()
    with torch.no_grad():
        for batch in task.val_batches(0, 1):
            for name, value in task.measure(task.model, batch).items():
                sums[name] += value
    return task.summary(sums)


def test_it_begins_with_motion_and_learns_more(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    begun = figures(task)
    assert set(begun) == {"of copying", "h1", "h2"}
    assert begun["h1"] < begun["h2"] < 0.8
    optimizer = torch.optim.Adam(task.model.parameters(), 3e-3)
    for step in range(25):
        loss, logged = task.model(**task.batch(step, 0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert set(logged) == {"features", "motion"}
    assert figures(task)["of copying"] < 0.97 * begun["of copying"]


def test_displacements_are_learnt_from_what_is_moved(tmp_path: Path) -> None:
    still, moving = task_of(tmp_path, motion=0.0), task_of(tmp_path, motion=1.0)
    batch = still.batch(1, 0, 1)
    for task, expected in ((still, False), (moving, True)):
        loss, logged = task.model(**batch)
        loss.backward()
        flow = task.model.net.motion.change.weight.grad
        assert ("motion" in logged) is expected
        assert (flow is not None and bool(flow.abs().sum() > 0)) is True
    assert float(moving.model(**batch)[0].detach()) > float(still.model(**batch)[0].detach())


def test_a_head_has_its_say_and_is_not_trained_along(tmp_path: Path) -> None:
    head = LightHead(CHANNELS, 3).requires_grad_(False)
    task = task_of(tmp_path, head=head, agreement=0.5)
    assert not any("head" in name for name, _ in task.model.named_parameters())
    loss, logged = task.model(**task.batch(1, 0, 1))
    loss.backward()
    assert float(logged["agreement"]) > 0
    assert all(p.grad is None for p in head.parameters())


def test_options_follow_from_the_run_and_unknown_ones_are_named(tmp_path: Path) -> None:
    options = nano_options(spec_of(tmp_path))
    assert (options.channels, options.carried, options.height, options.width) == (CHANNELS, CARRIED, *GRID)
    assert (options.context, options.horizons, options.hidden) == (3, (1, 2), 24)
    with pytest.raises(TrainingError, match=r"small: forecaster\.model: unknown field 'hiden'; known are"):
        nano_options(spec_of(tmp_path, model={"hiden": 3}))
    fields = run_fields()["backbone"]
    blind = read_run_file(write_run(tmp_path / "blind.yaml", backbone={**fields, "picture": False}))
    with pytest.raises(TrainingError, match=r"backbone\.picture: .* set it to true"):
        nano_options(blind)
