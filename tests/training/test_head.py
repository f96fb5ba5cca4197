"""A head learns its classes, and its confidence is brought to what it is worth."""

from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.errors import TrainingError
from re2pix_node.training.cached_samples import LabelledSamples
from re2pix_node.training.head import HeadTask, best_temperature, class_weights
from re2pix_node.training.run_file import read_run_file
from tests.support.made_runs import run_fields, write_run
from tests.training.test_cached_samples import ENTRY, OWN, made_clip


@pytest.mark.parametrize("boast", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_boasting(boast: float) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 5, generator=rng) * 2
    true = torch.multinomial(logits.softmax(1), 1, generator=rng)[:, 0]
    assert best_temperature(logits * boast, true) == pytest.approx(boast, rel=0.05)


def test_without_labels_the_temperature_changes_nothing() -> None:
    assert best_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)) == 1


def test_a_temperature_for_nan_is_refused() -> None:
    with pytest.raises(TrainingError, match="logits with NaN or infinity"):
        best_temperature(torch.full((5, 3), float("nan")), torch.zeros(5, dtype=torch.int64))


def test_a_temperature_exists_even_for_a_head_that_is_never_wrong() -> None:
    logits = torch.eye(3)[torch.arange(300) % 3] * 5
    assert 0.01 < best_temperature(logits, torch.arange(300) % 3) < 0.5


@pytest.fixture
def samples(tmp_path: Path) -> LabelledSamples:
    return LabelledSamples([ENTRY], [[made_clip(tmp_path, "a", 20)]], OWN, 0)


def test_rare_classes_can_count_more(samples: LabelledSamples) -> None:
    assert class_weights(samples, 2, 0.0).tolist() == [1, 1]
    weights = class_weights(samples, 3, 1.0)  # 7 of 8 known pixels are the first, 1 the second, none the third
    assert weights.tolist() == pytest.approx([4 / 7, 4, 0])


def head_task(tmp_path: Path, samples: LabelledSamples, **changes: object) -> HeadTask:
    fields = run_fields()
    run = write_run(tmp_path / "run.yaml", pca={"channels": 4}, head={**fields["head"], **changes})
    torch.manual_seed(0)
    return HeadTask(read_run_file(run), samples, samples, OWN)


def test_loss_and_figures_count_known_pixels_only(tmp_path: Path, samples: LabelledSamples) -> None:
    task = head_task(tmp_path, samples)
    batch = task.batch(1, 0, 1)
    assert batch["features"].shape == (4, 2, 4, 20)
    loss, figures = task.model(**batch)
    ignored = {**batch, "labels": torch.full_like(batch["labels"], 255)}
    assert torch.isfinite(loss)
    assert 0 <= float(figures["right"]) <= 1
    assert float(task.model(**ignored)[0].detach()) == 0
    sums = task.measure(task.model, batch)
    assert int(sums["confusion"].sum()) == int(sums["confidence"].sum()) == int((batch["labels"] != 255).sum())
    perfect = {"confusion": torch.diag(torch.tensor([70, 10])), "confidence": torch.zeros(256, 2)}
    perfect["confidence"][-1, 1] = 80
    assert task.summary(perfect) == {"miou": 1.0, "accuracy": 1.0, "ece": 0.0}


def test_processes_share_a_batch_and_the_validation(tmp_path: Path, samples: LabelledSamples) -> None:
    task = head_task(tmp_path, samples)
    whole = task.batch(3, 0, 1)["features"]
    parts = [task.batch(3, rank, 2)["features"] for rank in range(2)]
    np.testing.assert_array_equal(torch.stack(parts, 1).flatten(0, 1), whole)
    count = sum(len(batch["labels"]) for rank in range(2) for batch in task.val_batches(rank, 2))
    assert count == sum(len(batch["labels"]) for batch in task.val_batches(0, 1)) == 8


def test_calibration_lowers_the_calibration_error(tmp_path: Path, samples: LabelledSamples) -> None:
    task = head_task(tmp_path, samples)
    optimizer = torch.optim.Adam(task.model.parameters(), 0.02)
    for step in range(5):
        loss, _ = task.model(**task.batch(step, 0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def error() -> float:
        sums = task.empty()
        for batch in task.val_batches(0, 1):
            for name, value in task.measure(task.model, batch).items():
                sums[name] += value
        return task.summary(sums)["ece"]

    with torch.no_grad():
        task.model.net.out.weight *= 20  # boastful, and still often wrong
        before = error()
        task.calibrate(torch.device("cpu"))
        assert task.temperature != 1
        assert error() < before


def test_unknown_options_of_the_network_are_named(tmp_path: Path, samples: LabelledSamples) -> None:
    with pytest.raises(TrainingError, match=r"head\.model: .*'breadth'"):
        head_task(tmp_path, samples, model={"breadth": 3})
