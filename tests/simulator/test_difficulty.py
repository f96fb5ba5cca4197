"""The measure of how hard drives are."""

from pathlib import Path

import numpy as np
import pytest

from re2pix_node.simulator.difficulty import CAMVID, copy_last_confusion, grouped, ious, report


def test_copying_what_does_not_change_is_perfect() -> None:
    labels = [np.array([[0, 0, 1], [255, 10, 1]], np.uint8)] * 4
    scores = ious(copy_last_confusion(labels, 2))
    assert np.nanmin(scores) == 1
    assert np.isnan(scores[13])


def test_copying_a_step_to_the_side_is_scored_by_hand() -> None:
    now, later = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 255]], np.uint8)
    scores = ious(copy_last_confusion([now, later], 1))
    assert scores[0] == pytest.approx(1 / 2)
    assert scores[1] == pytest.approx(1 / 2)


def test_merged_classes_count_as_one() -> None:
    car, truck, road = 13, 14, 0
    now, later = np.array([[car, road, 255]], np.uint8), np.array([[truck, road, road]], np.uint8)
    scores = ious(grouped(copy_last_confusion([now, later], 1), CAMVID))
    assert scores[0] == pytest.approx(1 / 2)
    assert scores[9] == 1
    assert sorted(label for group in CAMVID for label in group) == list(range(19))


def test_a_report_of_a_drive_names_every_class(simulated: Path) -> None:
    text = report([simulated])
    assert "copy-last at 0.18 s" in text
    assert "traffic_light" in text
