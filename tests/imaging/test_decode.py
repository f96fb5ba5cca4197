"""Raw images: every encoding against an independent reference."""

import array
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import sensor_msgs.msg
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from re2pix_node.errors import ImageError
from re2pix_node.imaging.decode import ENCODINGS, decode, decode_image

BYTES_PER_PIXEL = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "mono16": 2} | {
    encoding: 1 if encoding.startswith(("nv", "bayer")) else 2 for encoding in ENCODINGS[6:]
}
# One at the least, and one that is no multiple of what registers hold.
SIZES = [(4, 4), (30, 34)]
ODD_SIZES = [(1, 1), (1, 7), (5, 1), (61, 83)]


def image_message(encoding, rows, height=None, padding=0, is_bigendian=0):
    """A message with these rows of bytes [rows, row bytes] and garbage in the padding behind each."""
    rows = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    garbage = np.random.default_rng(9).integers(0, 256, (len(rows), padding), np.uint8)
    return SimpleNamespace(
        encoding=encoding,
        height=len(rows) if height is None else height,
        width=rows.shape[1] // BYTES_PER_PIXEL[encoding],
        step=rows.shape[1] + padding,
        is_bigendian=is_bigendian,
        data=np.hstack([rows, garbage]).ravel(),
    )


def random_message(encoding, height, width, padding=0, seed=0):
    rows = height * 3 // 2 if encoding.startswith("nv") else height
    payload = np.random.default_rng(seed).integers(0, 256, (rows, width * BYTES_PER_PIXEL[encoding]), np.uint8)
    return image_message(encoding, payload, height, padding)


def random_rgb(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def is_picture(picture, height, width):
    return picture.shape == (height, width, 3) and picture.dtype == np.uint8 and picture.flags.c_contiguous


# Colour order and depth


@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", "rgb"), ("bgr8", "bgr"), ("rgba8", "rgba"), ("bgra8", "bgra")]
)
def test_colour_orders(encoding, order):
    for height, width in SIZES + ODD_SIZES:
        check_colour_order(encoding, order, height, width)


def check_colour_order(encoding, order, height, width):
    rgb = random_rgb(height, width)
    channels = dict(zip("rgba", [*np.moveaxis(rgb, -1, 0), np.full((height, width), 77, np.uint8)], strict=True))
    picture = decode_image(image_message(encoding, np.stack([channels[c] for c in order], axis=-1)))
    assert is_picture(picture, height, width)
    assert np.array_equal(picture, rgb)


def test_mono8_is_grey():
    for height, width in SIZES + ODD_SIZES:
        grey = random_rgb(height, width)[:, :, 0]
        picture = decode_image(image_message("mono8", grey))
        assert is_picture(picture, height, width)
        assert np.array_equal(picture, np.dstack([grey] * 3))


@pytest.mark.parametrize(("order", "is_bigendian", "padding"), [("<u2", 0, 1), (">u2", 1, 6)])
def test_mono16_keeps_the_whole_range_rounded_in_both_byte_orders(order, is_bigendian, padding):
    levels = np.arange(65536).reshape(128, 512)
    picture = decode_image(image_message("mono16", levels.astype(order), padding=padding, is_bigendian=is_bigendian))
    assert np.array_equal(picture, np.dstack([np.rint(levels / 257)] * 3))


# YUV, against the BT.601 formulas


def limited_range_bt601(y, u, v):
    y, u, v = (plane.astype(float) for plane in (y, u, v))
    luma = 255 / 219 * (y - 16)
    red = luma + 1.402 * 255 / 224 * (v - 128)
    green = luma - (0.344136 * (u - 128) + 0.714136 * (v - 128)) * 255 / 224
    blue = luma + 1.772 * 255 / 224 * (u - 128)
    return np.clip(np.dstack([red, green, blue]), 0, 255)


def random_planes(height, width, chroma_height):
    draw = np.random.default_rng(3).integers
    chroma_size = (chroma_height, width // 2)
    return draw(16, 236, (height, width)), draw(16, 241, chroma_size), draw(16, 241, chroma_size)


@pytest.mark.parametrize(
    ("encoding", "order"), [("uyvy", "uyvy"), ("yuv422", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")]
)
def test_packed_yuv(encoding, order):
    for height, width in [*SIZES, (1, 2), (61, 82)]:
        check_packed_yuv(encoding, order, height, width)


def check_packed_yuv(encoding, order, height, width):
    y, u, v = random_planes(height, width, height)
    lumas = iter([y[:, 0::2], y[:, 1::2]])
    quads = np.dstack([{"u": u, "v": v}[letter] if letter != "y" else next(lumas) for letter in order])
    picture = decode_image(image_message(encoding, quads.astype(np.uint8)))
    assert is_picture(picture, height, width)
    expected = limited_range_bt601(y, u.repeat(2, axis=1), v.repeat(2, axis=1))
    assert np.abs(picture - expected).max() <= 2


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_planar_yuv(encoding, padding):
    for height, width in [*SIZES, (2, 2), (2, 14), (62, 6)]:
        check_planar_yuv(encoding, padding, height, width)


def check_planar_yuv(encoding, padding, height, width):
    y, u, v = random_planes(height, width, height // 2)
    pairs = np.dstack([u, v] if encoding == "nv12" else [v, u]).reshape(height // 2, width)
    rows = np.vstack([y, pairs]).astype(np.uint8)
    picture = decode_image(image_message(encoding, rows, height, padding))
    assert is_picture(picture, height, width)
    expected = limited_range_bt601(y, *(plane.repeat(2, axis=0).repeat(2, axis=1) for plane in (u, v)))
    assert np.abs(picture - expected).max() <= 2


# Bayer, from mosaics made by sampling a picture

PATTERNS = ["rggb", "bggr", "gbrg", "grbg"]


def mosaic_of(rgb, pattern):
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for index, colour in enumerate(pattern):
        row, column = divmod(index, 2)
        mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(colour)]
    return mosaic


@pytest.mark.parametrize("pattern", PATTERNS)
def test_bayer_mosaic_of_one_colour(pattern):
    for height, width in [(3, 3), (4, 4), (5, 8), (61, 83)]:
        rgb = np.full((height, width, 3), (200, 100, 30), np.uint8)
        picture = decode_image(image_message(f"bayer_{pattern}8", mosaic_of(rgb, pattern)))
        assert is_picture(picture, height, width)
        assert np.array_equal(picture, rgb)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_bayer_mosaic_of_a_colour_gradient(pattern):
    height, width = 40, 31
    row, column = np.mgrid[:height, :width]
    rgb = np.dstack([6 * column, 5 * row, 250 - 3 * row - 2 * column]).astype(np.uint8)
    picture = decode_image(image_message(f"bayer_{pattern}8", mosaic_of(rgb, pattern)))
    # Interpolation between neighbours is right on a gradient, except along the border, where neighbours are missing.
    assert np.abs(picture.astype(int) - rgb)[1:-1, 1:-1].max() <= 1


# Payloads


@settings(deadline=None)
@given(
    encoding=st.sampled_from(ENCODINGS),
    height=st.integers(2, 20),
    width=st.integers(2, 20),
    padding=st.integers(0, 17),
    last_padding=st.booleans(),
)
def test_row_padding_does_not_show(encoding, height, width, padding, last_padding):
    height, width = 2 * height, 2 * width
    padded = random_message(encoding, height, width, padding, seed=height * width)
    if not last_padding:
        padded.data = padded.data[: len(padded.data) - padding]
    plain = random_message(encoding, height, width, seed=height * width)
    picture = decode_image(padded)
    assert is_picture(picture, height, width)
    assert np.array_equal(picture, decode_image(plain))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("B", data)])
def test_any_buffer_will_do(kind):
    for encoding in ENCODINGS:
        message = random_message(encoding, 6, 8, padding=2)
        expected = decode_image(message).copy()
        message.data = kind(message.data.tobytes())
        assert np.array_equal(decode(message), expected), encoding


@pytest.mark.parametrize("encoding", ["rgb8", "nv12"])  # the message's fields do not depend on the encoding
def test_messages_of_rclpy_and_rosbags(encoding):
    plain = random_message(encoding, 6, 8, padding=3)
    from_ros = sensor_msgs.msg.Image(
        encoding=encoding, height=6, width=8, step=plain.step, data=array.array("B", plain.data.tobytes())
    )
    types = get_typestore(Stores.ROS2_HUMBLE).types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "camera")
    from_bag = types["sensor_msgs/msg/Image"](header, 6, 8, encoding, 0, plain.step, plain.data)
    assert np.array_equal(decode(from_ros), decode_image(plain))
    assert np.array_equal(decode(from_bag), decode_image(plain))


def test_only_rgb8_without_padding_shares_the_messages_memory():
    for encoding, padding in itertools.product(ENCODINGS, (0, 4)):
        message = random_message(encoding, 4, 6, padding)
        picture = decode_image(message)
        before = picture.copy()
        message.data += 50
        if encoding == "rgb8" and padding == 0:
            assert np.array_equal(picture, message.data.reshape(4, 6, 3))
            assert not picture.flags.writeable
        else:
            assert np.array_equal(picture, before), (encoding, padding)


WRONG_MESSAGES = [
    ("rgb8", {"encoding": "rgb10"}, r"image encoding 'rgb10' is not known: publish one of rgb8, bgr8, .*bayer_grbg8"),
    ("rgb8", {"encoding": ""}, "image encoding '' is not known"),
    ("rgb8", {"width": 0}, "rgb8 image of 0 x 6 pixels is empty"),
    ("nv12", {"height": 0}, "nv12 image of 8 x 0 pixels is empty"),
    ("rgb8", {"step": 23}, "rgb8 image of 8 x 6 pixels: step is 23 bytes, but a row takes 24"),
    ("mono16", {"step": 0}, "step is 0 bytes, but a row takes 16"),
    ("nv12", {"step": 7}, "step is 7 bytes, but a row takes 8"),
    ("bgra8", {"height": 7}, "bgra8 image of 8 x 7 pixels with step 32 needs 224 bytes, but its data has 192"),
    ("nv21", {"data": bytes(71)}, "nv21 image of 8 x 6 pixels with step 8 needs 72 bytes, but its data has 71"),
    ("mono8", {"step": 10, "data": bytes(57)}, "needs 58 bytes, but its data has 57"),
    ("mono8", {"data": b""}, "needs 48 bytes, but its data has 0"),
    ("uyvy", {"width": 7}, "uyvy image of 7 x 6 pixels: the width must be even"),
    ("yuv422_yuy2", {"width": 7}, "the width must be even"),
    ("nv12", {"width": 7}, "nv12 image of 7 x 6 pixels: the width must be even"),
    ("nv21", {"height": 5}, "nv21 image of 8 x 5 pixels: the height must be even"),
    ("bayer_rggb8", {"width": 2}, "bayer_rggb8 image of 2 x 6 pixels is too small: at least 3 x 3"),
    ("bayer_gbrg8", {"height": 2}, "bayer_gbrg8 image of 8 x 2 pixels is too small"),
    ("rgb8", {"data": "text"}, "image data is a str, not a contiguous run of bytes"),
    ("rgb8", {"data": np.zeros(288, np.uint8)[::2]}, "image data is a ndarray, not a contiguous run of bytes"),
]


@pytest.mark.parametrize(("encoding", "changes", "error"), WRONG_MESSAGES)
def test_wrong_messages_are_refused_in_one_line(encoding, changes, error):
    message = random_message(encoding, 6, 8)
    decode(message)
    vars(message).update(changes)
    with pytest.raises(ImageError, match=error) as raised:
        decode(message)
    assert "\n" not in str(raised.value)


def test_other_messages_are_refused_by_name():
    with pytest.raises(ImageError, match="CameraInfo is not an image message"):
        decode(sensor_msgs.msg.CameraInfo())
