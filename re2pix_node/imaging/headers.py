"""What JPEG and PNG files say of themselves, read before they are decoded: a small file can ask for gigabytes."""

from dataclasses import dataclass

from re2pix_node.common.limits import PIXELS
from re2pix_node.errors import ImageError

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"
_SOS, _EOI = 0xDA, 0xD9
_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of JPEG's frame header
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
# Each scan of a progressive JPEG goes over the whole picture again, and may be a few bytes long. Cameras use up to 12.
MOST_SCANS = 100


@dataclass(frozen=True)
class ImageHeader:
    """The size that a file declares; zero if it declares none."""

    kind: str
    width: int
    height: int
    is_whole: bool  # whether its end marker is there
    scans: int = 1  # how often the picture is gone over


def read_header(data: bytes) -> ImageHeader | None:
    """The header of a JPEG or PNG file; None for others."""
    if data.startswith(JPEG_START):
        return _jpeg(data)
    if data.startswith(PNG_START):
        width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        return ImageHeader("PNG", width, height, data.find(_PNG_END) >= 0)
    return None


def refuse_beyond(most: int | None, width: int, height: int, what: str) -> None:
    """ImageError if a picture has more than `most` pixels; None is the limit of docs/limits.md."""
    limit = PIXELS.value if most is None else most
    if width * height > limit:
        raise ImageError(
            f"{what} of {width} x {height} pixels is larger than {limit} pixels: raise the node's parameter "
            f"max_pixels, or {PIXELS.name} for commands"
        )


def _jpeg(jpeg: bytes) -> ImageHeader:
    """As libjpeg reads it: bytes between two segments are skipped."""
    at, width, height = 2, 0, 0
    while (at := jpeg.find(b"\xff", at)) >= 0 and at + 1 < len(jpeg):
        marker = jpeg[at + 1]
        if marker in (0x00, 0xFF):  # no marker, or a fill byte
            at += 1
            continue
        if marker in (_SOS, _EOI):
            break
        if marker in _SIZES and not height:
            height, width = int.from_bytes(jpeg[at + 5 : at + 7], "big"), int.from_bytes(jpeg[at + 7 : at + 9], "big")
        at += 2 if marker in _BARE else 2 + max(2, int.from_bytes(jpeg[at + 2 : at + 4], "big"))
    # The end marker of an embedded thumbnail does not count, nor do its scans.
    whole = at >= 0 and jpeg.find(_JPEG_END, at) >= 0
    return ImageHeader("JPEG", width, height, whole, jpeg.count(bytes([0xFF, _SOS]), max(at, 0)))
