"""A tiny folder in the layout of Cityscapes."""

from pathlib import Path

import numpy as np
import pytest

from re2pix_node.footage.clips import DataError, open_clips, samples
from tests.support.made_footage import HEIGHT, SPEC, WIDTH, mask, number_in, picture, stamps_at, write_png

LABEL_IDS = {7: 0, 8: 1, 26: 13, 33: 18, 0: 255, 1: 255, 6: 255, 29: 255, 255: 255}  # some, from cityscapesScripts


def frame_file(root: Path, snippet: str, number: int, split: str = "val") -> Path:
    city = snippet.split("_")[0]
    return root / "leftImg8bit_sequence" / split / city / f"{snippet}_{number:06d}_leftImg8bit.png"


def label_file(root: Path, snippet: str, number: int, split: str = "val", kind: str = "labelIds") -> Path:
    city = snippet.split("_")[0]
    return root / "gtFine" / split / city / f"{snippet}_{number:06d}_gtFine_{kind}.png"


def label_ids() -> np.ndarray:
    """Stripes, one for each of LABEL_IDS."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for column, value in enumerate(LABEL_IDS):
        labels[:, column * 7 : column * 7 + 7] = value
    return labels


def write_snippet(root: Path, snippet: str, first: int = 0, split: str = "val", labelled: bool = True) -> None:
    for number in range(30):
        write_png(frame_file(root, snippet, first + number, split), picture(number))
    if labelled:
        write_png(label_file(root, snippet, first + 19, split), label_ids())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cityscapes"
    write_snippet(root, "bonn_000003", first=100)
    write_snippet(root, "bonn_000003", first=130, labelled=False)  # the next snippet follows at once
    write_snippet(root, "aachen_000000")
    write_snippet(root, "ulm_000001", split="train")
    return root


def test_every_snippet_is_a_clip(root: Path) -> None:
    clips = open_clips(root)
    names = ["train/ulm_000001_000000", "val/aachen_000000_000000", "val/bonn_000003_000100", "val/bonn_000003_000130"]
    assert [clip.name for clip in clips] == [f"cityscapes/{name}" for name in names]
    assert [list(clip.labelled) for clip in clips] == [[19], [19], [19], []]
    assert all(list(clip.stamps) == stamps_at(17, 30, start=0) for clip in clips)


@pytest.mark.parametrize(("below", "count"), [("", 4), ("val", 3), ("train", 1), ("val/bonn", 2)])
def test_a_split_or_a_city_alone(below: str, count: int, root: Path) -> None:
    clips = open_clips(root / "leftImg8bit_sequence" / below)
    assert len(clips) == count
    assert clips[0].labels(19) is not None


def test_the_labelled_frame_is_the_twentieth(root: Path) -> None:
    clip = open_clips(root)[1]
    found = list(samples(clip, SPEC, labelled_only=True))
    # 17 Hz: three frames a step. Each horizon meets the labelled frame once, and the present does too.
    assert [number_in(sample.context[-1]) for sample in found] == [10, 13, 16, 19]
    assert [number_in(frame) for frame in found[0].context] == [1, 4, 7, 10]
    assert [number_in(frame) for frame in found[0].future] == [13, 16, 19]
    assert found[0].spacing == pytest.approx(3e9 / 17, abs=2)
    labels = found[0].future_labels[2]
    assert labels is not None
    for column, label in enumerate(LABEL_IDS.values()):
        assert (labels[:, column * 7 : column * 7 + 7] == label).all()
    np.testing.assert_array_equal(found[3].now_labels, labels)
    assert [sample.now_labels is None for sample in found] == [True, True, True, False]


def test_train_ids_are_taken_as_they_are(root: Path) -> None:
    write_png(label_file(root, "aachen_000000", 19, kind="labelTrainIds"), mask(7))
    np.testing.assert_array_equal(open_clips(root)[1].labels(19), mask(7))


def test_without_labels(root: Path) -> None:
    (root / "gtFine").rename(root / "elsewhere")
    assert [list(clip.labelled) for clip in open_clips(root)] == [[]] * 4


@pytest.mark.parametrize("gone", [1, 19, 29])
def test_a_missing_frame(gone: int, root: Path) -> None:
    frame_file(root, "aachen_000000", gone).unlink()
    with pytest.raises(DataError, match=rf"aachen_000000_{gone:06d}_leftImg8bit.png: is missing; the snippet from"):
        open_clips(root)


def test_the_first_frame_is_missing(root: Path) -> None:
    frame_file(root, "aachen_000000", 0).unlink()
    with pytest.raises(DataError, match=r"aachen_000000_000030_leftImg8bit.png: is missing; .* frame 000001 on"):
        open_clips(root)


def test_a_label_for_another_frame(root: Path) -> None:
    write_png(label_file(root, "aachen_000000", 18), label_ids())
    with pytest.raises(DataError, match=r"aachen_000000_000018_gtFine_labelIds.png: belongs to frame 19"):
        open_clips(root)


def test_wrong_sizes_and_values(root: Path) -> None:
    write_png(label_file(root, "aachen_000000", 19), np.zeros((HEIGHT, HEIGHT), np.uint8))
    write_png(frame_file(root, "bonn_000003", 107), picture(7, 72, 48))
    write_png(label_file(root, "ulm_000001", 19, "train"), np.full((HEIGHT, WIDTH), 34, np.uint8))
    ulm, aachen, bonn, _ = open_clips(root)
    with pytest.raises(DataError, match=r"000019_gtFine_labelIds.png: is 48 x 48 pixels, its frame is 64 x 48"):
        list(samples(aachen, SPEC))
    with pytest.raises(DataError, match=r"000107_leftImg8bit.png: is 72 x 48 pixels, other frames of the clip are 64"):
        list(samples(bonn, SPEC))
    with pytest.raises(DataError, match=r"000019_gtFine_labelIds.png: the label value 34 at x 0, y 0 is unknown"):
        list(samples(ulm, SPEC))


def test_groups_of_dataset_yaml(root: Path) -> None:
    (root / "dataset.yaml").write_text("groups: {vehicle: {dataset: [13, 14, 15], bundle: [13]}}")
    for path in (root, root / "leftImg8bit_sequence" / "val"):
        assert open_clips(path)[0].groups[0].name == "vehicle"
    (root / "dataset.yaml").write_text("rate: 30")
    with pytest.raises(DataError, match=r"rate: is fixed for Cityscapes"):
        open_clips(root)


def test_an_empty_layout(tmp_path: Path) -> None:
    (tmp_path / "leftImg8bit_sequence").mkdir()
    with pytest.raises(DataError, match=r"holds no SPLIT/CITY"):
        open_clips(tmp_path)
