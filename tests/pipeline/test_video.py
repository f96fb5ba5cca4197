import itertools
import resource
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from re2pix_node.errors import Re2pixError
from re2pix_node.pipeline.video import open_video

SUFFIXES = (".webm", ".mp4")


def frames(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    return list(itertools.takewhile(lambda frame: frame is not None, (video.read()[1] for _ in itertools.count())))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_picture_is_left_out_whatever_its_size(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"video{suffix}"
    with open_video(path, 10) as video:
        for size in ((64, 96), (64, 96), (96, 64), (640, 320), (1, 3000), (64, 96)):
            video.write(np.full((*size, 3), 200, np.uint8))
    written = frames(path)
    assert [frame.shape for frame in written] == [(64, 96, 3)] * 6
    assert written[2][32, 48].min() > 150
    assert written[2][32, 5].max() < 60  # a black border


@pytest.fixture
def little_room() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_said(suffix: str, tmp_path: Path, little_room: None) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (128, 192, 3), np.uint8)

    def write() -> None:
        with open_video(tmp_path / f"video{suffix}", 10) as video:
            for i in range(40):
                video.write(np.roll(noise, i * 7, axis=1))

    with pytest.raises(Re2pixError, match="could not be written completely: is the disk full"):
        write()


def test_a_video_without_pictures_is_no_fault(tmp_path: Path) -> None:
    with open_video(tmp_path / "video.webm", 10):
        pass
