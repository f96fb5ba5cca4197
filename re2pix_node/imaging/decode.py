"""Camera messages to pictures: [height, width, 3] RGB, 8 bits, from all common encodings of camera drivers."""

import functools
import importlib.util
import subprocess
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from re2pix_node.common import subprocess_python
from re2pix_node.common.decoder_stderr import decoders_quiet
from re2pix_node.errors import ImageError
from re2pix_node.imaging.headers import MOST_SCANS, read_header, refuse_beyond

Picture = NDArray[np.uint8]


class ImageMessage(Protocol):
    """The fields of a sensor_msgs/Image that are read; data is any object with the buffer protocol."""

    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: Any
    data: Any


class CompressedImageMessage(Protocol):
    """The fields of a sensor_msgs/CompressedImage that are read."""

    format: str
    data: Any


@dataclass(frozen=True)
class _Layout:
    """The memory layout of an encoding, and the OpenCV conversion to RGB."""

    pixel_bytes: int
    conversion: int
    width_multiple: int = 1
    height_multiple: int = 1
    least: int = 1
    payload_rows: float = 1.0  # per row of the picture


_RGB8 = _Layout(3, -1)
_UYVY = _Layout(2, cv2.COLOR_YUV2RGB_UYVY, width_multiple=2)
_YUYV = _Layout(2, cv2.COLOR_YUV2RGB_YUY2, width_multiple=2)
# OpenCV names a mosaic by the pixels at (1, 1) and (1, 2), ROS by those at (0, 0) and (0, 1): rggb is OpenCV's BG.
# OpenCV leaves mosaics smaller than 3 x 3 black.
_BAYER = {
    "bayer_rggb8": _Layout(1, cv2.COLOR_BayerBG2RGB, least=3),
    "bayer_bggr8": _Layout(1, cv2.COLOR_BayerRG2RGB, least=3),
    "bayer_gbrg8": _Layout(1, cv2.COLOR_BayerGR2RGB, least=3),
    "bayer_grbg8": _Layout(1, cv2.COLOR_BayerGB2RGB, least=3),
}
_LAYOUTS = {
    "rgb8": _RGB8,
    "bgr8": _Layout(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(1, cv2.COLOR_GRAY2RGB),
    "mono16": _Layout(2, cv2.COLOR_GRAY2RGB),
    "uyvy": _UYVY,
    "yuv422": _UYVY,
    "yuyv": _YUYV,
    "yuv422_yuy2": _YUYV,
    "nv12": _Layout(1, cv2.COLOR_YUV2RGB_NV12, width_multiple=2, height_multiple=2, payload_rows=1.5),
    "nv21": _Layout(1, cv2.COLOR_YUV2RGB_NV21, width_multiple=2, height_multiple=2, payload_rows=1.5),
    **_BAYER,
}
ENCODINGS = tuple(_LAYOUTS)
# Every release of cv_bridge knows these. rgb8 is not here: it needs no conversion, and cv_bridge would copy it.
_CV_BRIDGE_ENCODINGS = frozenset({"bgr8", "rgba8", "bgra8", "mono8", "mono16", "yuv422", "yuv422_yuy2", *_BAYER})


def decode(message: Any, most: int | None = None) -> Picture:
    """The picture in a sensor_msgs/Image or sensor_msgs/CompressedImage; decode_image says who owns the memory.

    One with more than `most` pixels is refused before it is decoded; None is the limit of docs/limits.md.
    """
    if hasattr(message, "encoding"):
        return decode_image(message, most)
    if hasattr(message, "format"):
        return decode_compressed(message, most)
    raise ImageError(f"{type(message).__name__} is not an image message: send sensor_msgs/Image or CompressedImage")


def decode_image(message: ImageMessage, most: int | None = None) -> Picture:
    """The picture in a raw image message, RGB and contiguous.

    rgb8 without row padding is not copied: the picture is a read-only view of the message's data. It keeps the data
    alive and changes with them, so copy it if the message will be refilled. All other pictures own their memory.
    """
    layout = _checked_layout(message)
    refuse_beyond(most, message.width, message.height, f"{message.encoding} image")
    payload = _payload(message.data)
    _check_payload(message, layout, len(payload))
    if _suits_cv_bridge(message, layout, len(payload)):
        bridge = _cv_bridge()
        if bridge is not None:
            return _by_cv_bridge(bridge, message)
    return _by_opencv(message, layout, payload)


def decode_compressed(message: CompressedImageMessage, most: int | None = None) -> Picture:
    """The picture in a JPEG or PNG image message, RGB and contiguous; an EXIF rotation is not applied.

    JPEG has no checksum: bytes that were damaged on the way show as blocks in the picture, not as an error.
    """
    payload = _payload(message.data)
    _check_compressed(message.format, payload, most)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with decoders_quiet():
            decoded = cv2.imdecode(payload, flags)
    except cv2.error:  # the size exceeds OpenCV's limits
        decoded = None
    if decoded is None:
        raise ImageError(
            f"compressed image {message.format!r} of {len(payload)} bytes is corrupt: OpenCV cannot decode it"
        )
    picture = _to_8_bits(decoded) if decoded.dtype == np.uint16 else decoded
    mosaic = _compressed_mosaic(message.format)
    if mosaic is not None and min(picture.shape[:2]) >= mosaic.least:
        return _convert(picture[:, :, 0], mosaic.conversion)
    return _convert(picture, cv2.COLOR_BGR2RGB)


def _check_compressed(message_format: str, payload: Picture, most: int | None) -> None:
    # The payload gives the format: drivers write the format field in many ways. But depth puts bytes before its PNG.
    if "compresseddepth" in message_format.lower():
        raise ImageError(f"compressed image {message_format!r} is a depth map: subscribe to a colour or grey camera")
    header = read_header(payload.tobytes())
    if header is None:
        start = payload[:8].tobytes()
        raise ImageError(
            f"compressed image {message_format!r} starts with {start.hex(' ') or 'nothing'}, which is neither JPEG "
            "nor PNG: set the publisher's format to jpeg or png"
        )
    # OpenCV may decode a truncated JPEG with its missing part grey, and takes long to reject a truncated PNG.
    what = f"{header.kind} image of {len(payload)} bytes"
    if not header.is_whole:
        raise ImageError(f"{what} has no end marker: it was truncated on its way")
    if not header.width * header.height:
        raise ImageError(f"{what} is corrupt: it does not say its size")
    if header.scans > MOST_SCANS:
        raise ImageError(f"{what} has {header.scans} scans, {MOST_SCANS} are allowed: send baseline JPEG")
    refuse_beyond(most, header.width, header.height, f"{header.kind} image")


def _checked_layout(message: ImageMessage) -> _Layout:
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise ImageError(f"image encoding {message.encoding!r} is not known: publish one of {', '.join(ENCODINGS)}")
    name = f"{message.encoding} image of {message.width} x {message.height} pixels"
    if message.width == 0 or message.height == 0:
        raise ImageError(f"{name} is empty: check the camera driver")
    if min(message.width, message.height) < layout.least:
        raise ImageError(f"{name} is too small: at least {layout.least} x {layout.least} are needed")
    if message.width % layout.width_multiple:
        raise ImageError(f"{name}: the width must be even, because two pixels share a colour")
    if message.height % layout.height_multiple:
        raise ImageError(f"{name}: the height must be even, because two rows share their colours")
    row_bytes = message.width * layout.pixel_bytes
    if message.step < row_bytes:
        raise ImageError(f"{name}: step is {message.step} bytes, but a row takes {row_bytes}: correct step")
    return layout


def _payload(data: Any) -> Picture:
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise ImageError(f"image data is a {type(data).__name__}, not a contiguous run of bytes: {error}") from error


def _check_payload(message: ImageMessage, layout: _Layout, size: int) -> None:
    rows = int(message.height * layout.payload_rows)
    # The last row may come without padding.
    needed = message.step * (rows - 1) + message.width * layout.pixel_bytes
    if size < needed:
        raise ImageError(
            f"{message.encoding} image of {message.width} x {message.height} pixels with step {message.step} needs "
            f"{needed} bytes, but its data has {size}: it was truncated, or the size or step is wrong"
        )


def _by_opencv(message: ImageMessage, layout: _Layout, payload: Picture) -> Picture:
    if message.encoding == "mono16":
        order = ">u2" if message.is_bigendian else "<u2"
        deep: NDArray[Any] = np.ndarray((message.height, message.width), order, payload, strides=(message.step, 2))
        return _convert(_to_8_bits(deep.astype(np.uint16)), layout.conversion)
    rows = int(message.height * layout.payload_rows)
    shape = (rows, message.width, layout.pixel_bytes)
    pixels: Picture = np.ndarray(shape, np.uint8, payload, strides=(message.step, layout.pixel_bytes, 1))
    if layout is _RGB8:
        picture = np.ascontiguousarray(pixels)
        picture.flags.writeable = False
        return picture
    return _convert(pixels[:, :, 0] if layout.pixel_bytes == 1 else pixels, layout.conversion)


def _convert(pixels: NDArray[Any], conversion: int) -> Picture:
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def _to_8_bits(deep: NDArray[Any]) -> Picture:
    """Map the whole 16-bit range to the whole 8-bit range, rounded as cv_bridge does: 65535 gives 255."""
    return np.asarray(cv2.convertScaleAbs(deep, alpha=255 / 65535), np.uint8)


def _compressed_mosaic(message_format: str) -> _Layout | None:
    """The Bayer pattern of a mosaic that image_transport compressed without converting it to colour.

    The format is then "bayer_rggb8; png compressed "; after a conversion its target ("mono8", "bgr8") follows.
    """
    words = message_format.split()
    if words[-1:] != ["compressed"]:
        return None
    return _BAYER.get(words[0].rstrip(";").replace("16", "8"))


def _suits_cv_bridge(message: ImageMessage, layout: _Layout, size: int) -> bool:
    """Whether every release of cv_bridge reads this message correctly.

    Old releases ignore row padding. Newer ones shear a picture whose padding is not a whole number of pixels, and with
    NumPy 2 they fail to swap bytes.
    """
    unpadded = message.step == message.width * layout.pixel_bytes and size >= message.step * message.height
    return message.encoding in _CV_BRIDGE_ENCODINGS and unpadded and not message.is_bigendian


def _by_cv_bridge(bridge: Any, message: ImageMessage) -> Picture:
    try:
        return np.ascontiguousarray(bridge.imgmsg_to_cv2(message, "rgb8"), np.uint8)
    except Exception as error:  # CvBridgeError, and other errors of its binary module
        size = f"{message.width} x {message.height} pixels"
        raise ImageError(f"{message.encoding} image of {size}: cv_bridge cannot convert it: {error}") from error


@functools.cache
def _cv_bridge() -> Any:
    """A CvBridge, or None where cv_bridge is missing or broken."""
    try:
        if importlib.util.find_spec("cv_bridge") is None:
            return None
        # A cv_bridge built for NumPy 1 imports under NumPy 2, but ends the process at the first conversion
        # (vision_opencv#535). That cannot be caught, so a child process tries it first.
        if int(np.__version__.split(".")[0]) >= 2:
            trial = subprocess_python.code(f"from {__name__} import _proven_cv_bridge; _proven_cv_bridge()")
            environment = subprocess_python.environment()
            subprocess.run(trial, env=environment, check=True, capture_output=True, timeout=30)
        return _proven_cv_bridge()
    except Exception:
        return None


def _proven_cv_bridge() -> Any:
    """A CvBridge that has converted a picture: the import alone does not show that its binary module is broken."""
    from cv_bridge import CvBridge

    bridge = CvBridge()
    pixel = SimpleNamespace(encoding="mono8", height=1, width=1, step=1, is_bigendian=0, data=b"\0")
    bridge.imgmsg_to_cv2(pixel, "rgb8")
    return bridge
