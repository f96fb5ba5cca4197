import array
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import sensor_msgs.msg
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from re2pix_node import images
from re2pix_node.errors import ImageError
from re2pix_node.images import ENCODINGS, decode, decode_compressed, decode_image

BYTES_PER_PIXEL = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "mono16": 2} | {
    encoding: 1 if encoding.startswith(("nv", "bayer")) else 2 for encoding in ENCODINGS[6:]
}
SIZES = [(4, 4), (6, 10), (48, 64), (30, 34)]
ODD_SIZES = [(1, 1), (1, 7), (5, 1), (3, 3), (7, 5), (61, 83)]


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


@pytest.mark.parametrize(("height", "width"), SIZES + ODD_SIZES)
@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", "rgb"), ("bgr8", "bgr"), ("rgba8", "rgba"), ("bgra8", "bgra")]
)
def test_colour_orders(encoding, order, height, width):
    rgb = random_rgb(height, width)
    channels = dict(zip("rgba", [*np.moveaxis(rgb, -1, 0), np.full((height, width), 77, np.uint8)], strict=True))
    picture = decode_image(image_message(encoding, np.stack([channels[c] for c in order], axis=-1)))
    assert is_picture(picture, height, width)
    assert np.array_equal(picture, rgb)


@pytest.mark.parametrize(("height", "width"), SIZES + ODD_SIZES)
def test_mono8_is_grey(height, width):
    grey = random_rgb(height, width)[:, :, 0]
    picture = decode_image(image_message("mono8", grey))
    assert is_picture(picture, height, width)
    assert np.array_equal(picture, np.dstack([grey] * 3))


@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize(("order", "is_bigendian"), [("<u2", 0), (">u2", 1)])
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


@pytest.mark.parametrize(("height", "width"), [*SIZES, (1, 2), (7, 6), (61, 82)])
@pytest.mark.parametrize(
    ("encoding", "order"), [("uyvy", "uyvy"), ("yuv422", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")]
)
def test_packed_yuv(encoding, order, height, width):
    y, u, v = random_planes(height, width, height)
    lumas = iter([y[:, 0::2], y[:, 1::2]])
    quads = np.dstack([{"u": u, "v": v}[letter] if letter != "y" else next(lumas) for letter in order])
    picture = decode_image(image_message(encoding, quads.astype(np.uint8)))
    assert is_picture(picture, height, width)
    expected = limited_range_bt601(y, u.repeat(2, axis=1), v.repeat(2, axis=1))
    assert np.abs(picture - expected).max() <= 2


@pytest.mark.parametrize(("height", "width"), [*SIZES, (2, 2), (2, 14), (62, 6)])
@pytest.mark.parametrize("padding", [0, 3, 8])
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_planar_yuv(encoding, padding, height, width):
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


@pytest.mark.parametrize(("height", "width"), [(3, 3), (4, 4), (5, 8), (7, 3), (61, 83)])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_bayer_mosaic_of_one_colour(pattern, height, width):
    rgb = np.full((height, width, 3), (200, 100, 30), np.uint8)
    picture = decode_image(image_message(f"bayer_{pattern}8", mosaic_of(rgb, pattern)))
    assert is_picture(picture, height, width)
    assert np.array_equal(picture, rgb)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (9, 20), (40, 31)])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_bayer_mosaic_of_a_colour_gradient(pattern, height, width):
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


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("B", data)])
def test_any_buffer_will_do(kind, encoding):
    message = random_message(encoding, 6, 8, padding=2)
    expected = decode_image(message).copy()
    message.data = kind(message.data.tobytes())
    assert np.array_equal(decode(message), expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
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


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("padding", [0, 4])
def test_only_rgb8_without_padding_shares_the_messages_memory(encoding, padding):
    message = random_message(encoding, 4, 6, padding)
    picture = decode_image(message)
    before = picture.copy()
    message.data += 50
    if encoding == "rgb8" and padding == 0:
        assert np.array_equal(picture, message.data.reshape(4, 6, 3))
        assert not picture.flags.writeable
    else:
        assert np.array_equal(picture, before)


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
    with pytest.raises(ImageError, match="CameraInfo is no image message"):
        decode(sensor_msgs.msg.CameraInfo())


# Compressed


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


# cv_bridge


@pytest.mark.parametrize("encoding", sorted(images._CV_BRIDGE_ENCODINGS))
@pytest.mark.parametrize("padding", [0, 12])
def test_cv_bridge_gives_the_same_pixels(encoding, padding):
    bridge = images._cv_bridge()
    if bridge is None:
        pytest.skip("cv_bridge is not importable here: it comes with a ROS distribution, not from PyPI")
    plain = random_message(encoding, 30, 34, padding)
    message = sensor_msgs.msg.Image(encoding=encoding, height=30, width=34, step=plain.step)
    message.data = array.array("B", plain.data.tobytes())
    ours = images._by_opencv(message, images._LAYOUTS[encoding], plain.data)
    assert np.array_equal(images._by_cv_bridge(bridge, message), ours)


@pytest.mark.parametrize(
    ("encoding", "changes", "suits"),
    [
        ("bgr8", {}, True),
        ("bgr8", {"step": 27, "data": bytes(6 * 27)}, True),
        ("bgr8", {"step": 25, "data": bytes(6 * 25)}, False),
        ("bgr8", {"step": 27, "data": bytes(6 * 27 - 3)}, False),
        ("mono16", {"is_bigendian": 1}, False),
        ("uyvy", {}, False),
        ("nv12", {}, False),
        ("rgb8", {}, False),
    ],
)
def test_cv_bridge_is_given_only_what_it_reads_rightly(encoding, changes, suits):
    message = random_message(encoding, 6, 8)
    vars(message).update(changes)
    assert images._suits_cv_bridge(message, images._LAYOUTS[encoding], len(message.data)) == suits


INSTALLATIONS = {
    "fails at import": ("raise SystemError('built for another NumPy')", "own"),
    "fails at the first conversion": (
        "class CvBridge:\n    def imgmsg_to_cv2(self, message, encoding): raise ImportError('no binary module')",
        "own",
    ),
    "ends the process": (
        "import os\nclass CvBridge:\n    def imgmsg_to_cv2(self, message, encoding): os.abort()",
        "own",
    ),
    "refuses the picture": (
        "class CvBridge:\n    def imgmsg_to_cv2(self, message, encoding):\n"
        "        if message.width > 1: raise RuntimeError('no')",
        "ImageError: bgr8 image of 2 x 1 pixels: cv_bridge cannot convert it: no",
    ),
}
DECODE_ONE = """
from types import SimpleNamespace
from re2pix_node.images import decode
message = SimpleNamespace(encoding="bgr8", height=1, width=2, step=6, is_bigendian=0, data=bytes(range(6)))
assert decode(message).tolist() == [[[2, 1, 0], [5, 4, 3]]]
print("own")
"""


@pytest.mark.skipif(np.__version__ < "2", reason="under NumPy 1 cv_bridge is not tried in a process of its own")
@pytest.mark.parametrize(("module", "outcome"), INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_a_broken_cv_bridge_is_as_good_as_none(module, outcome, tmp_path):
    (tmp_path / "cv_bridge.py").write_text(module)
    path = os.pathsep.join([str(tmp_path), str(Path(images.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", DECODE_ONE], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    last_line = (run.stdout + run.stderr).strip().splitlines()[-1]
    assert last_line.removeprefix("re2pix_node.errors.") == outcome
