import numpy as np
import pytest

from re2pix_node.pipeline.preview import (
    CAPTION_HEIGHT,
    LARGEST_CUT,
    PANEL_WIDTH,
    contact_sheet,
    cut,
    encode_jpeg,
    moment_caption,
    palette,
)
from tests.support.tiny_bundle import tiny_manifest

LABELS = tiny_manifest().labels


def test_each_mask_value_has_its_classes_colour() -> None:
    colours = palette(LABELS)
    assert tuple(colours[13]) == (0, 0, 142)
    assert tuple(colours[0]) == (128, 64, 128)
    assert tuple(colours[255]) == (0, 0, 0)


@pytest.mark.parametrize("masks", [1, 2, 4, 7])
def test_a_sheet_holds_a_panel_for_the_camera_each_mask_and_the_legend(masks: int) -> None:
    frame = np.full((100, 200, 3), 255, np.uint8)
    mask = np.full((20, 40), 13, np.uint8)
    sheet = contact_sheet(frame, [(str(k), mask) for k in range(masks)], ["a note"], LABELS)
    panel = PANEL_WIDTH // 2 + CAPTION_HEIGHT
    rows = -(-(masks + 2) // 3)
    assert sheet.shape == (panel * rows, 3 * PANEL_WIDTH, 3)
    # The middle of the first panel is the camera, that of the next the class colour over it.
    middle = CAPTION_HEIGHT + PANEL_WIDTH // 4
    assert tuple(sheet[middle, PANEL_WIDTH // 2]) == (255, 255, 255)
    assert tuple(sheet[middle, PANEL_WIDTH * 3 // 2]) == (102, 102, 187)


def test_pictures_stand_beside_the_masks_as_they_are() -> None:
    frame = np.full((100, 200, 3), 255, np.uint8)
    mask = np.full((20, 40), 13, np.uint8)
    green = np.zeros((32, 64, 3), np.uint8)
    green[..., 1] = 200
    sheet = contact_sheet(frame, [("now", mask)], [], LABELS, [("drawn", green), ("later", green)])
    panel = PANEL_WIDTH // 2 + CAPTION_HEIGHT
    assert sheet.shape == (2 * panel, 3 * PANEL_WIDTH, 3)
    picture = sheet[CAPTION_HEIGHT:panel, 2 * PANEL_WIDTH :]
    assert (picture == (0, 200, 0)).all()


def test_a_region_inside_the_picture_is_cut_out() -> None:
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    np.testing.assert_array_equal(cut(picture, 1, 2, 3, 2), picture[2:4, 1:4])


def test_a_region_beyond_the_picture_is_black_there() -> None:
    picture = np.full((4, 6, 3), 9, np.uint8)
    out = cut(picture, -1, -2, 8, 8)
    assert out.shape == (8, 8, 3)
    assert (out[2:6, 1:7] == 9).all()
    assert out.sum() == 9 * 4 * 6 * 3


def test_captions_say_when() -> None:
    assert moment_caption(0) == "now"
    assert moment_caption(176_470_588) == "expected in 0.18 s"


@pytest.mark.parametrize("size", [(20000, 1), (1, 20000), (3, 2_000_000), (5000, 5000), (1, 1)])
def test_a_sheet_is_of_bounded_size_whatever_the_camera_sends(size: tuple[int, int]) -> None:
    # A sheet for a camera of 1 x 20000 pixels took 22 GB.
    frame = np.full((*size, 3), 255, np.uint8)
    mask = np.full((20, 40), 13, np.uint8)
    for masks in (1, 300):
        sheet = contact_sheet(frame, [("now", mask)] * masks, ["a note"], LABELS, [("drawn", frame)] * 3)
        assert sheet.nbytes < 30 << 20
        assert len(encode_jpeg(sheet)) > 0


@pytest.mark.parametrize("region", [(-20000, 0, 40000, 20000), (0, -(10**6), 7, 2 * 10**6)])
def test_a_cut_is_of_bounded_size(region: tuple[float, float, float, float]) -> None:
    out = cut(np.full((20000, 7, 3), 9, np.uint8), *region)
    assert max(out.shape) <= LARGEST_CUT + 1
    assert (out == 9).any()
