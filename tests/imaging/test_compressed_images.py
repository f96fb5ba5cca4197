"""JPEG and PNG images, whole, odd and damaged."""

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import sensor_msgs.msg
from hypothesis import given, settings
from hypothesis import strategies as st

from re2pix_node.errors import ImageError
from re2pix_node.imaging.decode import decode, decode_compressed, decode_image
from tests.imaging.test_decode import (
    ODD_SIZES,
    PATTERNS,
    SIZES,
    image_message,
    is_picture,
    mosaic_of,
    random_rgb,
)


def compressed(payload, message_format=""):
    return sensor_msgs.msg.CompressedImage(format=message_format, data=array.array("B", payload))


def encoded(kind, picture):
    return cv2.imencode(kind, picture if picture.ndim == 2 else picture[:, :, ::-1])[1].tobytes()


def smooth_rgb(height, width):
    """A picture that JPEG hardly changes."""
    row, column = np.mgrid[:height, :width]
    return np.dstack([column * 200 // width, row * 200 // height, 200 - row * 150 // height]).astype(np.uint8)


FORMATS = ["", "jpeg", "png", "rgb8; jpeg compressed bgr8", "bgr8; png compressed bgr8", ".jpg"]


@pytest.mark.parametrize(("height", "width"), SIZES + ODD_SIZES)
@pytest.mark.parametrize("message_format", FORMATS)
def test_png_is_exact_whatever_the_format_says(message_format, height, width):
    rgb = random_rgb(height, width)
    picture = decode(compressed(encoded(".png", rgb), message_format))
    assert is_picture(picture, height, width)
    assert np.array_equal(picture, rgb)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (61, 83)])
@pytest.mark.parametrize("message_format", FORMATS)
def test_jpeg_is_close_whatever_the_format_says(message_format, height, width):
    rgb = smooth_rgb(height, width)
    picture = decode(compressed(encoded(".jpg", rgb), message_format))
    assert is_picture(picture, height, width)
    assert np.abs(picture.astype(int) - rgb).max() < 20


def test_compressed_data_as_rosbags_has_it():
    rgb = random_rgb(7, 9)
    data = np.frombuffer(encoded(".png", rgb), np.uint8)
    assert np.array_equal(decode_compressed(SimpleNamespace(format="png", data=data)), rgb)


def test_grey_is_spread_over_the_channels():
    grey = smooth_rgb(21, 17)[:, :, 0]
    assert np.array_equal(decode(compressed(encoded(".png", grey))), np.dstack([grey] * 3))
    jpeg = decode(compressed(encoded(".jpg", grey))).astype(int)
    assert np.abs(jpeg - grey[:, :, None]).max() < 10
    assert (jpeg == jpeg[:, :, :1]).all()


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3)])
def test_16_bit_png_is_scaled_and_rounded(shape):
    deep = np.random.default_rng(0).integers(0, 65536, shape, np.uint16)
    expected = np.rint((deep if deep.ndim == 3 else np.dstack([deep] * 3)) / 257)
    assert np.array_equal(decode(compressed(encoded(".png", deep))), expected)


def test_alpha_is_dropped():
    rgba = np.random.default_rng(0).integers(0, 256, (7, 5, 4), np.uint8)
    png = cv2.imencode(".png", rgba[:, :, [2, 1, 0, 3]])[1].tobytes()
    assert np.array_equal(decode(compressed(png)), rgba[:, :, :3])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_compressed_mosaic_becomes_a_colour_picture(pattern):
    mosaic = mosaic_of(smooth_rgb(12, 15), pattern)
    expected = decode_image(image_message(f"bayer_{pattern}8", mosaic))
    assert np.array_equal(decode(compressed(encoded(".png", mosaic), f"bayer_{pattern}8; png compressed ")), expected)
    deep = mosaic.astype(np.uint16) * 257
    assert np.array_equal(decode(compressed(encoded(".png", deep), f"bayer_{pattern}16; png compressed ")), expected)


def test_a_picture_made_of_a_mosaic_before_compression_is_left_alone():
    rgb = smooth_rgb(12, 15)
    assert np.array_equal(decode(compressed(encoded(".png", rgb), "bayer_rggb8; png compressed bgr8")), rgb)


def application_segment(content):
    return b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content


def test_exif_rotation_is_ignored():
    jpeg = encoded(".jpg", smooth_rgb(48, 64))
    entry = (0x112).to_bytes(2, "big") + (3).to_bytes(2, "big") + (1).to_bytes(4, "big") + b"\x00\x06\x00\x00"
    exif = b"Exif\0\0MM\x00\x2a\x00\x00\x00\x08\x00\x01" + entry + bytes(4)
    rotated = jpeg[:2] + application_segment(exif) + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(rotated, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3)
    assert np.array_equal(decode(compressed(rotated)), decode(compressed(jpeg)))


@pytest.mark.parametrize("padding", [b"", bytes(700)], ids=["cut", "cut and filled with zeros"])
@pytest.mark.parametrize("thumbnail", [False, True])
def test_truncated_jpeg_is_refused(thumbnail, padding):
    jpeg = encoded(".jpg", smooth_rgb(61, 83))
    if thumbnail:  # has an end marker of its own
        jpeg = jpeg[:2] + application_segment(encoded(".jpg", smooth_rgb(8, 8))) + jpeg[2:]
    decode(compressed(jpeg))
    for length in [*range(3, len(jpeg) - 2, 29), len(jpeg) - 2, len(jpeg) - 1]:
        with pytest.raises(ImageError, match=f"JPEG image of {length + len(padding)} bytes has no end marker"):
            decode(compressed(jpeg[:length] + padding))


@pytest.mark.parametrize("tail", [b"\0", bytes(1000), b"\xff\xff\xff", b"\r\n"])
def test_jpeg_may_be_padded_behind_its_end(tail):
    jpeg = encoded(".jpg", smooth_rgb(30, 34))
    assert np.array_equal(decode(compressed(jpeg + tail)), decode(compressed(jpeg)))


def test_jpeg_may_have_fill_bytes_before_a_marker():
    jpeg = encoded(".jpg", smooth_rgb(30, 34))
    assert np.array_equal(decode(compressed(jpeg[:2] + b"\xff\xff" + jpeg[2:])), decode(compressed(jpeg)))


def test_truncated_png_is_refused():
    png = encoded(".png", random_rgb(11, 13))
    for length in range(8, len(png)):
        with pytest.raises(ImageError, match=f"PNG image of {length} bytes has no end marker"):
            decode(compressed(png[:length]))


@pytest.mark.parametrize("where", [30, 45, 50, 100, 300, 400])
def test_changed_png_is_refused(where):
    png = bytearray(encoded(".png", random_rgb(11, 13)))
    png[where] ^= 0x55
    with pytest.raises(ImageError, match=f"compressed image 'png' of {len(png)} bytes is corrupt"):
        decode(compressed(png, "png"))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_garbage_in_a_jpeg_is_refused(garbage):
    with pytest.raises(ImageError):
        decode(compressed(b"\xff\xd8\xff" + garbage + b"\xff\xd9"))


FOREIGN = [
    (b"RIFF\x10\0\0\0WEBP", "webp", "compressed image 'webp' starts with 52 49 46 46 .*neither JPEG nor PNG"),
    (b"", "jpeg", "compressed image 'jpeg' starts with nothing"),
    (b"\xff\xd8", "jpeg", "starts with ff d8, which"),
    (
        bytes(12) + encoded(".png", random_rgb(4, 4)),
        "16UC1; compressedDepth png",
        "'16UC1; compressedDepth png' is a depth",
    ),
    (encoded(".png", random_rgb(4, 4)), "32FC1; compressedDepth", "is a depth map"),
]


@pytest.mark.parametrize(("payload", "message_format", "error"), FOREIGN)
def test_other_compressions_are_refused_by_name(payload, message_format, error):
    with pytest.raises(ImageError, match=error) as raised:
        decode(compressed(payload, message_format))
    assert "\n" not in str(raised.value)
