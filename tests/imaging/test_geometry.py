import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from re2pix_node.imaging.geometry import FITS, Region, fit_frame

SIZE = st.integers(1, 300)
FIT = st.sampled_from(FITS)


def cells(region, rows, columns):
    """Left, top, right and bottom of every cell, each [rows, columns]."""
    row, column = np.mgrid[:rows, :columns]
    return region.cell(row, column, rows, columns)


def random_rgb(height, width):
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def test_cells_follow_the_rule_of_image_region():
    region = Region(image_width=100, image_height=60, x=-4.0, y=6.0, width=108.0, height=48.0)
    assert region.cell(0, 0, 8, 9) == (-4.0, 6.0, 8.0, 12.0)
    assert region.cell(3, 2, 8, 9) == (20.0, 24.0, 32.0, 30.0)
    assert region.cell(7, 8, 8, 9) == (92.0, 48.0, 104.0, 54.0)


@settings(deadline=None)
@given(fit=FIT, height=SIZE, width=SIZE, model_height=SIZE, model_width=SIZE)
def test_frame_has_the_models_size_and_region_the_images(fit, height, width, model_height, model_width):
    frame, region = fit_frame(random_rgb(height, width), model_height, model_width, fit)
    assert frame.shape == (model_height, model_width, 3)
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous
    assert (region.image_width, region.image_height) == (width, height)


@settings(deadline=None)
@given(
    fit=FIT,
    height=st.integers(40, 400),
    width=st.integers(40, 400),
    model_height=st.integers(20, 120),
    model_width=st.integers(20, 120),
    across=st.floats(0.2, 0.8),
    down=st.floats(0.2, 0.8),
)
def test_a_bright_square_is_found_where_it_was(fit, height, width, model_height, model_width, across, down):
    _, region = fit_frame(np.zeros((height, width, 3), np.uint8), model_height, model_width, fit)
    cell_width, cell_height = region.width / model_width, region.height / model_height
    # Two model pixels and a bit on each side, placed inside what the model sees of the image.
    half_width, half_height = int(np.ceil(1.2 * cell_width)), int(np.ceil(1.2 * cell_height))
    x = round(max(region.x, 0) + across * min(region.width, width))
    y = round(max(region.y, 0) + down * min(region.height, height))
    left, right, top, bottom = x - half_width, x + half_width, y - half_height, y + half_height
    margin_x, margin_y = max(cell_width, 1), max(cell_height, 1)
    assume(left >= max(region.x, 0) + margin_x and right <= min(region.x + region.width, width) - margin_x)
    assume(top >= max(region.y, 0) + margin_y and bottom <= min(region.y + region.height, height) - margin_y)

    camera_frame = np.zeros((height, width, 3), np.uint8)
    camera_frame[top:bottom, left:right] = 255
    frame, region = fit_frame(camera_frame, model_height, model_width, fit)
    weight = frame[:, :, 1] / frame[:, :, 1].sum(dtype=float)
    lefts, tops, rights, bottoms = cells(region, model_height, model_width)
    assert abs((weight * (lefts + rights) / 2).sum() - x) < 0.1 * cell_width
    assert abs((weight * (tops + bottoms) / 2).sum() - y) < 0.1 * cell_height


@settings(deadline=None)
@given(height=SIZE, width=SIZE, model_height=SIZE, model_width=SIZE)
def test_crop_is_the_largest_centred_part_with_the_models_shape(height, width, model_height, model_width):
    _, region = fit_frame(random_rgb(height, width), model_height, model_width, "crop")
    assert region.x >= 0
    assert region.y >= 0
    assert region.x + region.width <= width
    assert region.y + region.height <= height
    assert region.width == width or region.height == height
    assert abs(width - region.width - 2 * region.x) <= 1
    assert abs(height - region.height - 2 * region.y) <= 1
    # Rounded to whole pixels, and at least one of them, on the side that was cut.
    ideal_width = min(width, height * model_width / model_height)
    ideal_height = min(height, width * model_height / model_width)
    assert abs(region.width - max(1, ideal_width)) <= 0.5
    assert abs(region.height - max(1, ideal_height)) <= 0.5


@settings(deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), rows=st.integers(1, 60), columns=st.integers(1, 60))
def test_pad_shows_all_of_the_image_and_black_around_it(height, width, rows, columns):
    frame, region = fit_frame(np.full((height, width, 3), 255, np.uint8), rows, columns, "pad")
    lefts, tops, rights, bottoms = cells(region, rows, columns)
    lefts, tops, rights, bottoms = (np.round(edges, 6) for edges in (lefts, tops, rights, bottoms))
    inside = (lefts >= 0) & (tops >= 0) & (rights <= width) & (bottoms <= height)
    assert np.array_equal(frame == 255, np.dstack([inside] * 3))
    assert (frame[~inside] == 0).all()
    assert [lefts[inside].min(), tops[inside].min()] == [0, 0]
    assert [rights[inside].max(), bottoms[inside].max()] == [width, height]


@settings(deadline=None)
@given(height=SIZE, width=SIZE, rows=SIZE, columns=SIZE)
def test_pad_keeps_the_shape_and_centres_it(height, width, rows, columns):
    _, region = fit_frame(random_rgb(height, width), rows, columns, "pad")
    inner_width, inner_height = columns * width / region.width, rows * height / region.height
    scale = min(columns / width, rows / height)
    assert abs(inner_width - max(1, width * scale)) <= 0.5 + 1e-6
    assert abs(inner_height - max(1, height * scale)) <= 0.5 + 1e-6
    right_of_it, below_it = region.x + region.width - width, region.y + region.height - height
    assert -1e-6 <= right_of_it + region.x <= region.width / columns + 1e-6
    assert -1e-6 <= below_it + region.y <= region.height / rows + 1e-6


@settings(deadline=None)
@given(height=SIZE, width=SIZE, rows=SIZE, columns=SIZE)
def test_stretch_shows_the_whole_image(height, width, rows, columns):
    _, region = fit_frame(random_rgb(height, width), rows, columns, "stretch")
    assert region == Region(width, height, 0, 0, width, height)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (48, 64), (61, 83)])
def test_a_frame_of_the_models_size_is_not_touched(fit, height, width):
    rgb = random_rgb(height, width)
    frame, region = fit_frame(rgb, height, width, fit)
    assert np.array_equal(frame, random_rgb(height, width))
    assert np.shares_memory(frame, rgb)
    assert region == Region(width, height, 0, 0, width, height)


def test_crop_without_resizing_keeps_the_pixels():
    rgb = random_rgb(31, 51)
    frame, region = fit_frame(rgb, 31, 20, "crop")
    assert np.array_equal(frame, rgb[:, 15:35])
    assert region == Region(51, 31, 15, 0, 20, 31)


def test_padding_without_resizing_keeps_the_pixels():
    rgb = random_rgb(31, 20)
    frame, region = fit_frame(rgb, 31, 51, "pad")
    assert np.array_equal(frame[:, 15:35], rgb)
    assert not frame[:, :15].any()
    assert not frame[:, 35:].any()
    assert region == Region(20, 31, -15, 0, 51, 31)


@pytest.mark.parametrize("columns", [7, 64, 150], ids=["both axes shrink", "width stays", "width grows"])
def test_shrinking_averages_and_never_aliases(columns):
    stripes = np.zeros((90, 64, 3), np.uint8)
    stripes[::2] = 200
    frame, _ = fit_frame(stripes, 9, columns, "stretch")
    assert (np.abs(frame.astype(int) - 100) <= 1).all()


def test_enlarging_is_smooth():
    ramp = np.arange(0, 200, 10, np.uint8)
    frame, _ = fit_frame(np.dstack([np.tile(ramp, (4, 1))] * 3), 8, 100, "stretch")
    steps = np.diff(frame.astype(int), axis=1)
    assert steps.min() >= 0
    assert steps.max() <= 3


@pytest.mark.parametrize("fit", ["Crop", "letterbox", ""])
def test_other_fits_are_refused_by_name(fit):
    with pytest.raises(ValueError, match=f"fit '{fit}' is not known: use one of crop, stretch, pad"):
        fit_frame(random_rgb(4, 4), 2, 2, fit)
