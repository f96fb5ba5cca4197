"""Folders of frames with a dataset.yaml."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from re2pix_node.footage.clips import DataError, open_clips, samples
from tests.support.made_footage import (
    HEIGHT,
    SPEC,
    WIDTH,
    assert_lines_up,
    mask,
    number_in,
    picture,
    stamps_at,
    write_png,
)


class TestFolders:
    def write(self, folder: Path, numbers=range(30), settings: str = "", labels=range(0, 30, 3)) -> Path:
        for number in numbers:
            write_png(folder / "images" / f"cam_{number:04d}.png", picture(number))
        for number in labels:
            write_png(folder / "labels" / f"cam_{number:04d}.png", mask(number))
        (folder / "dataset.yaml").write_text(settings or "rate: 17\nimages: images\nlabels: labels\n")
        return folder

    def test_frames_and_labels(self, tmp_path: Path) -> None:
        (clip,) = open_clips(self.write(tmp_path))
        assert list(clip.stamps) == stamps_at(17, 30, start=0)
        assert list(clip.labelled) == list(range(0, 30, 3))
        assert_lines_up(clip)

    def test_jpeg_and_a_folder_for_each_drive(self, tmp_path: Path) -> None:
        for drive in ("b", "a"):
            for number in range(8, 12):  # cam_8 comes before cam_10
                file = tmp_path / "images" / drive / f"cam_{number}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), picture(number))
        write_png(tmp_path / "labels" / "b" / "cam_9.png", mask(9))
        (tmp_path / "dataset.yaml").write_text("rate: 10\nimages: images\nlabels: labels\n")
        first, second = open_clips(tmp_path)
        assert (first.name[-9:], second.name[-9:]) == ("/images/a", "/images/b")
        assert [number_in(frame) for frame in second.frames(range(4))] == [8, 9, 10, 11]
        assert (list(first.labelled), list(second.labelled)) == ([], [1])

    def test_without_dataset_yaml(self, tmp_path: Path) -> None:
        write_png(tmp_path / "a_0.png", picture(0))
        with pytest.raises(DataError, match=r"holds pictures, but no dataset.yaml with their rate"):
            open_clips(tmp_path)

    def test_a_label_map(self, tmp_path: Path) -> None:
        self.write(
            tmp_path,
            settings="rate: 17\nimages: images\nlabels: labels\nclasses: {1: road, 4: car}\nlabel_map: "
            + json.dumps({3: 4, 6: 255, 0: 1}).replace('"', ""),
            labels=[0, 3, 6, 9],
        )
        (clip,) = open_clips(tmp_path)
        assert clip.space.names == ("road", "car")
        assert [set(np.unique(clip.labels(number)).tolist()) for number in (0, 3, 6)] == [{1, 255}, {4, 255}, {255}]
        with pytest.raises(DataError, match=r"cam_0009.png: the label value 9 .* known are 0, 3, 6, 255: name it"):
            clip.labels(9)

    @pytest.mark.parametrize("gone", [1, 13, 28])
    def test_a_missing_frame(self, gone: int, tmp_path: Path) -> None:
        self.write(tmp_path, [number for number in range(30) if number != gone], labels=[0])
        with pytest.raises(DataError, match=f"images: frame {gone} is missing between cam_00"):
            open_clips(tmp_path)

    def test_every_third_number_is_no_gap(self, tmp_path: Path) -> None:
        self.write(tmp_path, range(0, 30, 3))
        assert len(open_clips(tmp_path)[0]) == 10

    def test_twins(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        write_png(tmp_path / "images" / "cam_3.png", picture(3))
        with pytest.raises(DataError, match="has the same number as"):
            open_clips(tmp_path)

    def test_a_label_without_a_frame(self, tmp_path: Path) -> None:
        self.write(tmp_path, labels=[31])
        with pytest.raises(DataError, match=r"labels/cam_0031.png: there is no frame cam_0031 in"):
            open_clips(tmp_path)

    def test_no_labels_and_no_pictures(self, tmp_path: Path) -> None:
        self.write(tmp_path, labels=[])
        (tmp_path / "labels").mkdir()
        with pytest.raises(DataError, match="labels: holds no labels"):
            open_clips(tmp_path)
        (tmp_path / "dataset.yaml").write_text("rate: 17\nimages: labels")
        with pytest.raises(DataError, match="labels: holds no pictures"):
            open_clips(tmp_path)

    def test_wrong_sizes(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        write_png(tmp_path / "labels" / "cam_0003.png", mask(3, 64, 64))
        write_png(tmp_path / "images" / "cam_0010.png", picture(10, 72, 48))
        (clip,) = open_clips(tmp_path)
        with pytest.raises(DataError, match=r"labels/cam_0003.png: is 64 x 64 pixels, its frame is 64 x 48"):
            clip.labels(3)
        with pytest.raises(DataError, match=r"images/cam_0010.png: is 72 x 48 pixels, other frames"):
            list(samples(clip, SPEC))

    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.zeros((HEIGHT, WIDTH, 3), np.uint8), "has 3 channels of uint8"),
            (np.zeros((HEIGHT, WIDTH), np.uint16), "has 1 channel of uint16"),
        ],
    )
    def test_labels_that_are_no_ids(self, pixels: np.ndarray, message: str, tmp_path: Path) -> None:
        self.write(tmp_path)
        write_png(tmp_path / "labels" / "cam_0003.png", pixels)
        with pytest.raises(DataError, match=f"cam_0003.png: {message}"):
            open_clips(tmp_path)[0].labels(3)

    def test_damaged_pictures(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        for name in ("images/cam_0003.png", "labels/cam_0003.png"):
            file = tmp_path / name
            file.write_bytes(file.read_bytes()[:-20])
        (clip,) = open_clips(tmp_path)
        with pytest.raises(DataError, match=r"images/cam_0003.png: PNG image of \d+ bytes has no end marker"):
            clip.frame(3)
        with pytest.raises(DataError, match=r"labels/cam_0003.png: cannot be read as a PNG"):
            clip.labels(3)
