"""Sizes of JPEG and PNG files are read before these are decoded: a small file can ask for gigabytes."""

import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from re2pix_node.common.limits import PIXELS
from re2pix_node.errors import ImageError
from re2pix_node.imaging import decode as images
from re2pix_node.imaging.decode import decode
from re2pix_node.imaging.headers import read_header


def png(width: int, height: int) -> bytes:
    """A PNG of one row of black, that claims this size: 32000 x 32000 took 6 GB and 15 s."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(3 * width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, *flags: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8), flags)[1].tobytes()


def larger(data: bytes, width: int, height: int) -> bytes:
    """The JPEG, that claims another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize("data", [png(32000, 32000), larger(jpeg(16, 16), 65000, 65000)], ids=["png", "jpeg"])
def test_an_image_of_too_many_pixels_is_not_decoded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="is larger than 50000000 pixels: raise the node's parameter max_pixels"):
        decode(SimpleNamespace(format="", data=data))


def test_the_limit_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    image = SimpleNamespace(format="", data=jpeg(300, 200))
    for most in (59_999, 1):
        with pytest.raises(ImageError, match="300 x 200 pixels"):
            decode(image, most)
    assert decode(image, 60_000).shape == (200, 300, 3)
    monkeypatch.setenv(PIXELS.name, "59999")
    with pytest.raises(ImageError, match="RE2PIX_MAX_PIXELS"):
        decode(image)
    raw = SimpleNamespace(encoding="mono8", width=300, height=200, step=300, is_bigendian=0, data=bytes(60_000))
    with pytest.raises(ImageError, match="mono8 image of 300 x 200 pixels is larger than 59999"):
        decode(raw)
    assert decode(raw, 60_000).shape == (200, 300, 3)


def test_a_jpeg_that_is_gone_over_without_end_is_refused() -> None:
    data = jpeg(64, 64, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    header = read_header(data)
    assert header is not None
    assert 1 < header.scans < 20
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="scans, 100 are allowed"):
        decode(SimpleNamespace(format="", data=data[:-2] + 500 * scan + data[-2:]))


def test_a_jpeg_without_a_size_is_refused() -> None:
    with pytest.raises(ImageError, match="it does not say its size"):
        decode(SimpleNamespace(format="", data=b"\xff\xd8\xff\xe0\x00\x02\xff\xd9"))


def test_what_lies_between_the_segments_of_a_jpeg_is_skipped() -> None:
    # As libjpeg does it: fill bytes, bytes that belong to nothing, a thumbnail in a segment.
    thumbnail = jpeg(8, 8)
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = jpeg(40, 24)
    data = data[:2] + b"\xff\xff" + segment + b"\x12\x34\xff\x00" + data[2:]
    header = read_header(data)
    assert header is not None
    assert (header.width, header.height, header.is_whole, header.scans) == (40, 24, True, 1)
    assert decode(SimpleNamespace(format="", data=data)).shape == (24, 40, 3)
    cut_off = data[: data.rindex(b"\xff\xda")]
    assert not read_header(cut_off).is_whole  # type: ignore[union-attr]
