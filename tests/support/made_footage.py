"""Footage whose frames and labels carry their number, so that a test sees which ones it was given."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from re2pix_node.bundle.manifest import TimeSpec
from re2pix_node.footage.clips import Clip, samples
from re2pix_node.recordings.writer import BagWriter, message_types

WIDTH, HEIGHT = 64, 48
BITS = 8  # of a number, as black and white columns that survive compression
SPEC = TimeSpec(context=4, stride=0.18, stride_min=0.12, stride_max=0.24, jitter=0.02, horizons=(1, 2, 3))
START = 1_700_000_000 * 10**9


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    bits = [(number >> bit & 1) * 255 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8), width // BITS)
    painted = np.zeros((height, width, 3), np.uint8)
    painted[:, : len(row)] = row[None, :, None]
    painted[height // 2 :, :, 2] = 128  # lower half: blue is neither, so that RGB and BGR differ
    return painted


def number_in(picture: np.ndarray) -> int:
    columns = np.array_split(picture[4 : picture.shape[0] // 2 - 4, :, 0].mean(axis=0), BITS)
    return sum(int(column.mean() > 127) << bit for bit, column in enumerate(columns))


def mask(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Train ids: the upper half says the number, the right quarter is ignored."""
    painted = np.full((height, width), number % 19, np.uint8)
    painted[:, -width // 4 :] = 255
    return painted


def stamps_at(rate: float, count: int, start: int = START) -> list[int]:
    return [start + round(index * 1e9 / rate) for index in range(count)]


def write_png(file: Path, picture: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), picture if picture.ndim == 2 else picture[:, :, ::-1])


def write_video(file: Path, rate: float, count: int, codec: str = "mp4v") -> None:
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(count):
        writer.write(picture(number)[:, :, ::-1])
    writer.release()


def write_labels(video: Path, rate: float, count: int, **changes: object) -> Path:
    file = video.with_suffix(".labels.npz")
    arrays = {"labels": np.stack([mask(number) for number in range(count)]), "fps": rate, **changes}
    np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})
    return file


def image_message(pixels: np.ndarray, stamp: int, encoding: str):
    types = message_types().types
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return types["sensor_msgs/msg/Image"](
        header=types["std_msgs/msg/Header"](stamp=time, frame_id="camera"),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // pixels.shape[0],
        data=np.ascontiguousarray(pixels).reshape(-1).view(np.uint8),
    )


def write_bag(
    path: Path,
    stamps: Sequence[int],
    masks: dict[int, np.ndarray] | None = None,
    camera: str = "/camera/image",
    encoding: str = "mono8",
    pictures: dict[int, np.ndarray] | None = None,
) -> None:
    """A frame for each stamp, labels for those in `masks`, and a depth map, which is an Image and no camera."""
    with BagWriter(path) as bag:
        for number, stamp in enumerate(stamps):
            received = START + number * 10**7
            frame = (pictures or {}).get(number, picture(number))
            if masks and number in masks:  # recorded before its frame
                bag.write("/ground_truth/segmentation", image_message(masks[number], stamp, encoding), received)
                depth = np.zeros((HEIGHT, WIDTH), np.float32)
                bag.write("/ground_truth/depth", image_message(depth, stamp, "32FC1"), received)
            bag.write(camera, image_message(frame, stamp, "rgb8"), received)


def all_labels(clip: Clip) -> list[np.ndarray]:
    return list(clip.label_frames(clip.labelled))


def assert_lines_up(clip: Clip) -> None:
    found = list(samples(clip, SPEC, labelled_only=True))
    assert found
    for sample in found:
        for frame, labels in zip(
            [sample.context[-1], *sample.future], [sample.now_labels, *sample.future_labels], strict=True
        ):
            if labels is not None:
                assert labels.shape == frame.shape[:2]
                np.testing.assert_array_equal(labels, mask(number_in(frame)))
