"""Each score against an independent implementation, and what it must and must not react to.

torchmetrics is imported by the tests that need it: it takes a second, and every worker of a parallel run reads all
files.
"""

import numpy as np
import pytest
import torch

from re2pix_node.common.metrics import (
    BETA,
    BINS,
    TRUE,
    add_features,
    add_labels,
    calibration_error,
    class_scores,
    cosine,
    empty_tally,
    scores,
    smooth_l1,
    stack,
    weighted,
)

CLASSES = 6
MOVING = np.array([False, False, True, False, True, False])


@pytest.fixture
def masks():
    """Predicted and true masks (6 = does not count), the true mask of now, and confidence inside the bins."""
    rng = np.random.default_rng(1)
    true = rng.integers(0, CLASSES + 1, (40, 60))
    said = np.where(rng.random(true.shape) < 0.6, true % CLASSES, rng.integers(0, CLASSES, true.shape))
    now = np.where(rng.random(true.shape) < 0.7, true, rng.integers(0, CLASSES, true.shape))
    levels = rng.choice([level for level in range(50, 255) if level % 17], true.shape)
    return said, true, now, levels.astype(np.uint8)


def counted(said, confidence, true, now):
    tally = empty_tally(CLASSES)
    add_labels(tally, TRUE, said, confidence, true, now)
    return tally


def test_iou_and_accuracy_agree_with_torchmetrics(masks) -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    said, true, now, confidence = masks
    tally = counted(said, confidence, true, now)
    found = scores(tally, TRUE, MOVING)
    jaccard = MulticlassJaccardIndex(CLASSES, average=None, ignore_index=CLASSES)
    recall = MulticlassAccuracy(CLASSES, average=None, ignore_index=CLASSES)
    micro = MulticlassAccuracy(CLASSES, average="micro", ignore_index=CLASSES)
    said_, true_ = torch.from_numpy(said), torch.from_numpy(true)
    by_class = jaccard(said_, true_).numpy()
    np.testing.assert_allclose(class_scores(tally, TRUE)["iou"], by_class, atol=1e-6)
    np.testing.assert_allclose(class_scores(tally, TRUE)["accuracy"], recall(said_, true_).numpy(), atol=1e-6)
    assert found["miou"] == pytest.approx(by_class.mean(), abs=1e-6)
    assert found["moving_miou"] == pytest.approx(by_class[MOVING].mean(), abs=1e-6)
    assert found["accuracy"] == pytest.approx(float(micro(said_, true_)), abs=1e-6)
    moved = torch.from_numpy(np.where((true < CLASSES) & MOVING[true % CLASSES], true, CLASSES))
    assert found["moving_accuracy"] == pytest.approx(float(micro(said_, moved)), abs=1e-6)


def test_scores_on_changed_pixels_agree_with_torchmetrics(masks) -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    said, true, now, confidence = masks
    found = scores(counted(said, confidence, true, now), TRUE, MOVING)
    changed = torch.from_numpy(np.where((now < CLASSES) & (now != true), true, CLASSES))
    said_ = torch.from_numpy(said)
    jaccard = MulticlassJaccardIndex(CLASSES, ignore_index=CLASSES)
    micro = MulticlassAccuracy(CLASSES, average="micro", ignore_index=CLASSES)
    assert found["changed_miou"] == pytest.approx(float(jaccard(said_, changed)), abs=1e-6)
    assert found["changed_accuracy"] == pytest.approx(float(micro(said_, changed)), abs=1e-6)


def test_a_class_that_does_not_occur_is_not_in_the_mean() -> None:
    true = np.array([[0, 0, 1, 1]])
    found = scores(counted(np.array([[0, 0, 1, 2]]), np.full((1, 4), 9, np.uint8), true, true), TRUE, MOVING)
    # Class 0 is found completely, class 1 by half, class 2 is predicted and never true; 3 to 5 do not occur.
    assert found["miou"] == pytest.approx((1 + 0.5 + 0) / 3)


def test_calibration_agrees_with_torchmetrics(masks) -> None:
    from torchmetrics.classification import MulticlassCalibrationError

    said, true, now, levels = masks
    tally = counted(said, levels, true, now)
    known = true < CLASSES
    confidence = levels[known] / 255
    # Input of torchmetrics: probabilities of all classes; the predicted class has the largest.
    chances = np.repeat(((1 - confidence) / 1e6)[:, None], CLASSES, 1)
    chances[np.arange(len(chances)), said[known]] = confidence
    metric = MulticlassCalibrationError(CLASSES, n_bins=BINS, norm="l1", validate_args=False)
    reference = metric(torch.from_numpy(chances).double(), torch.from_numpy(true[known]))
    assert scores(tally, TRUE, MOVING)["ece"] == pytest.approx(float(reference), abs=1e-6)


def test_a_calibrated_predictor_has_no_calibration_error() -> None:
    rng = np.random.default_rng(2)
    levels = rng.integers(0, 256, 400_000).astype(np.uint8)
    right = rng.random(levels.size) < levels / 255
    honest = counted(np.where(right, 0, 1), levels, np.zeros(levels.size, int), None)
    assert scores(honest, TRUE, MOVING)["ece"] < 0.01
    boasting = counted(np.where(right, 0, 1), np.full_like(levels, 255), np.zeros(levels.size, int), None)
    assert scores(boasting, TRUE, MOVING)["ece"] == pytest.approx(0.5, abs=0.01)


def test_calibration_error_of_nothing_is_undefined() -> None:
    assert np.isnan(calibration_error(np.zeros((256, 2))))


def test_feature_scores_agree_with_torch() -> None:
    rng = np.random.default_rng(3)
    said, true = rng.normal(0, 0.2, (2, 5, 7, 16)).astype(np.float32)
    torch_said, torch_true = torch.from_numpy(said), torch.from_numpy(true)
    reference = torch.nn.functional.smooth_l1_loss(torch_said, torch_true, beta=BETA)
    assert smooth_l1(said, true) == pytest.approx(float(reference), abs=1e-6)
    reference = torch.nn.functional.cosine_similarity(torch_said, torch_true, dim=-1).mean()
    assert cosine(said, true) == pytest.approx(float(reference), abs=1e-6)


def test_changed_pixels_ignore_the_unchanged() -> None:
    rng = np.random.default_rng(4)
    now = rng.integers(0, CLASSES, (20, 30))
    true = now.copy()
    true[:5] = (true[:5] + 1) % CLASSES
    said, confidence = rng.integers(0, CLASSES, now.shape), np.full(now.shape, 100, np.uint8)
    before = scores(counted(said, confidence, true, now), TRUE, MOVING)
    said[5:] = true[5:]
    after = scores(counted(said, confidence, true, now), TRUE, MOVING)
    assert after["accuracy"] > before["accuracy"]
    assert after["changed_accuracy"] == before["changed_accuracy"]
    assert after["changed_miou"] == before["changed_miou"]


def test_without_true_labels_of_now_no_pixel_is_known_to_change(masks) -> None:
    said, true, _, confidence = masks
    found = scores(counted(said, confidence, true, None), TRUE, MOVING)
    assert np.isfinite(found["accuracy"])
    assert np.isnan(found["changed_accuracy"])


def test_a_value_that_is_no_class_is_wrong_when_said_and_ignored_when_true() -> None:
    true = np.array([[0, 1, CLASSES]])
    said = np.array([[CLASSES, 1, 0]])
    found = scores(counted(said, np.full((1, 3), 9, np.uint8), true, true), TRUE, MOVING)
    assert found["accuracy"] == pytest.approx(0.5)


def test_tallies_add_up(masks) -> None:
    said, true, now, confidence = masks
    halves = [slice(0, 13), slice(13, None)]
    parts = [counted(said[half], confidence[half], true[half], now[half]) for half in halves]
    for part in parts:
        add_features(part, np.ones((2, 2, 4)), np.zeros((2, 2, 4)))
    whole = scores(counted(said, confidence, true, now), TRUE, MOVING)
    summed = scores(weighted(stack(parts), np.ones((1, 2))), TRUE, MOVING)
    for name in ("accuracy", "miou", "moving_miou", "changed_accuracy", "changed_miou", "ece"):
        assert summed[name][0] == pytest.approx(whole[name])
    assert summed["smooth_l1"][0] == pytest.approx(1 - BETA / 2)
