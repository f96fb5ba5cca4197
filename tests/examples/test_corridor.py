"""The corridor in the camera image, and the classes that enter it."""

import numpy as np
import pytest

from re2pix_node.examples.corridor import Corridor, Entry, intrusion
from re2pix_node.imaging.geometry import Region, fit_frame

WIDE = Corridor(bottom_width=1.5, top_width=0.3, top=0.4, centre=0.7)  # reaches beyond the image
CORRIDOR = Corridor(bottom_width=0.6, top_width=0.1, top=0.5, centre=0.4)
WHOLE = Region(200, 100, 0, 0, 200, 100)
CAR, PERSON, ROAD = 13, 11, 0


def by_the_pixel(corridor: Corridor, u: float, v: float) -> bool:
    """Is a point (fractions of the image) between the four corners?"""
    if not (0 <= u <= 1 and corridor.top <= v <= 1):
        return False
    t = (v - corridor.top) / (1 - corridor.top)
    width = t * corridor.bottom_width + (1 - t) * corridor.top_width
    return abs(u - corridor.centre) <= width / 2


@pytest.mark.parametrize("corridor", [CORRIDOR, WIDE])
@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize(("width", "height"), [(200, 100), (160, 120), (300, 100)])
def test_cells_are_inside_where_their_centre_is(corridor: Corridor, fit: str, width: int, height: int) -> None:
    _, region = fit_frame(np.zeros((height, width, 3), np.uint8), 56, 112, fit)
    rows, columns = 28, 56
    inside = corridor.inside(region, rows, columns)
    assert inside.any()
    for row in range(rows):
        for column in range(columns):
            left, top, right, bottom = region.cell(row, column, rows, columns)
            centre = (left + right) / 2 / width, (top + bottom) / 2 / height
            assert inside[row, column] == by_the_pixel(corridor, *centre), (row, column)


def test_its_edges_lie_where_the_parameters_say() -> None:
    inside = CORRIDOR.inside(WHOLE, 100, 200)
    rows = np.flatnonzero(inside.any(axis=1))
    assert (rows[0], rows[-1]) == (50, 99)
    assert np.flatnonzero(inside[50])[[0, -1]] == pytest.approx([0.35 * 200, 0.45 * 200], abs=1)
    assert np.flatnonzero(inside[99])[[0, -1]] == pytest.approx([0.10 * 200, 0.70 * 200], abs=1)


def test_a_corridor_beyond_the_region_is_empty() -> None:
    upper_half = Region(200, 100, 0, 0, 200, 50)
    assert not CORRIDOR.inside(upper_half, 10, 20).any()


# A corridor of 20 pixels, in the middle of a mask.
INSIDE = np.zeros((10, 10), bool)
INSIDE[4:8, 3:8] = True


def masks(*placed: tuple[int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """A road, with (class, pixels in the corridor, confidence) placed on it, and cars all around the corridor."""
    labels = np.where(INSIDE, ROAD, CAR).astype(np.uint8)
    confidence = np.full(labels.shape, 255, np.uint8)
    cells = list(zip(*np.nonzero(INSIDE), strict=True))
    for class_id, pixels, sure in placed:
        for _ in range(pixels):
            cell = cells.pop()
            labels[cell], confidence[cell] = class_id, round(255 * sure)
    return labels, confidence


def judged(by_horizon: dict[int, tuple[np.ndarray, np.ndarray]]) -> Entry | None:
    return intrusion(by_horizon, [CAR, PERSON], INSIDE, min_share=0.1, min_confidence=0.5)


def test_the_earliest_horizon_is_told() -> None:
    clear, car = masks(), masks((CAR, 5, 0.8))
    entry = judged({3: car, 0: clear, 2: car, 1: clear})
    assert entry is not None
    assert (entry.horizon, entry.class_id, entry.share) == (2, CAR, 5 / 20)
    assert entry.confidence == pytest.approx(0.8, abs=0.002)


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        ([], None),
        ([(ROAD, 9, 1.0)], None),
        ([(8, 9, 1.0)], None),  # vegetation does not move
        ([(255, 9, 1.0)], None),  # unlabelled
        ([(CAR, 1, 0.9)], None),  # too little of it
        ([(CAR, 2, 0.9)], CAR),
        ([(CAR, 9, 0.45)], None),  # too unsure
        ([(CAR, 3, 0.2), (CAR, 6, 0.7)], CAR),  # sure enough in the mean
        ([(CAR, 3, 0.9), (PERSON, 5, 0.9)], PERSON),  # the one that covers most
        ([(CAR, 3, 0.9), (PERSON, 5, 0.2)], CAR),  # of those one can be sure of
    ],
)
def test_what_counts_as_being_in_it(placed: list[tuple[int, int, float]], expected: int | None) -> None:
    entry = judged({1: masks(*placed)})
    assert (entry and entry.class_id) == expected


def test_without_horizons_or_corridor_nothing_is_told() -> None:
    assert judged({}) is None
    nowhere = np.zeros_like(INSIDE)
    assert intrusion({0: masks((CAR, 9, 1.0))}, [CAR], nowhere, min_share=0.0, min_confidence=0.0) is None
