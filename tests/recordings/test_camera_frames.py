"""Frames as a camera would send them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from re2pix_node.errors import Re2pixError
from re2pix_node.imaging.decode import decode
from re2pix_node.recordings.camera_frames import CameraFrame, CameraFrames, Form, parse_size
from re2pix_node.recordings.reader import open_recording
from tests.support.bag_files import compressed_image, images, received, write_rosbag2


def frames_of(path: Path, form: Form) -> tuple[list[CameraFrame], int]:
    with open_recording(path) as recording:
        frames = CameraFrames(recording, recording.camera(), form)
        return list(frames), frames.undecodable


def test_without_conversion_frames_are_what_was_recorded(tmp_path: Path) -> None:
    path = write_rosbag2(tmp_path / "raw", images(3))
    (first, *_), undecodable = frames_of(path, Form())
    recorded = images(1)[0][2]
    assert (first.stamp, first.received, first.frame_id) == (1_700_000_000_250_000_000, received(0), "camera_0")
    np.testing.assert_array_equal(first.fields.pop("data"), recorded.data)
    assert first.fields == {"height": 24, "width": 32, "encoding": "rgb8", "is_bigendian": 0, "step": 96}
    assert undecodable == 0


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (Form("bgr8"), ("bgr8", (24, 32))),
        (Form("rgb8"), ("rgb8", (24, 32))),
        (Form(size=(64, 48)), ("rgb8", (48, 64))),
        (Form("jpeg", (16, 12)), ("jpeg", (12, 16))),
    ],
)
def test_frames_are_converted(tmp_path: Path, form: Form, expected: tuple[str, tuple[int, int]]) -> None:
    path = write_rosbag2(tmp_path / "raw", images(2))
    (first, _), _ = frames_of(path, form)
    encoding, size = expected
    picture = decode(SimpleNamespace(**first.fields))
    assert first.fields.get("encoding", first.fields.get("format")) == encoding
    assert picture.shape[:2] == size
    if form.size is None:
        np.testing.assert_array_equal(picture.reshape(-1), images(1)[0][2].data)


def test_the_message_type_follows_the_form(drive_bag: Path) -> None:
    with open_recording(drive_bag) as recording:
        camera = recording.camera()
        assert Form().message_type(camera) == "CompressedImage"
        assert Form(size=(8, 8)).message_type(camera) == "CompressedImage"
        assert Form("bgr8").message_type(camera) == "Image"
        assert Form("jpeg").message_type(camera) == "CompressedImage"


def test_frames_that_cannot_be_converted_are_counted(tmp_path: Path) -> None:
    path = write_rosbag2(tmp_path / "broken", [("/camera", received(n), compressed_image(n)) for n in range(3)])
    assert len(frames_of(path, Form())[0]) == 3
    assert frames_of(path, Form("rgb8")) == ([], 3)


@pytest.mark.parametrize("text", ["1920", "1920x", "x1080", "0x5", "-1x5", "axb", "1x2x3"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Re2pixError, match="as in 1920x1080"):
        parse_size(text)
    assert parse_size("1920x1080") == (1920, 1080)
