"""Hostile camera messages: pictures that are damaged, lie about their size or change it, and stamps that jump."""

import base64
import functools
import json
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.engines.session import EngineSession
from re2pix_node.errors import Re2pixError
from re2pix_node.imaging.decode import ENCODINGS, decode
from re2pix_node.pipeline.live import LivePipeline
from tests.hostile import bundles
from tests.hostile.mutate import EDGES, damaged
from tests.support import drive

FRAMES = 9  # of a film: enough for a context of four
GAP = NANOSECONDS // 10
SIZES = (0, 1, 2, 3, 63, 64, 255, 256, 20_000, 2**16, 2**31, 2**32 - 1)  # of uint32
STEPS = (0, -1, GAP // 3, 5 * GAP, -5 * GAP, 10**18, -(10**18), 2**63 - 1, -(2**63))
NAMES = (
    "",
    "RGB8",
    "8UC3",
    "32FC1",
    "rgb8; jpeg compressed bgr8",
    "png",
    "h264",
    "\x1b[31m\n",
    "x" * 10_000,
    "é\ud800",
)
FITS = ("crop", "pad", None)


@functools.cache
def whole() -> tuple[bytes, ...]:
    """The film that is damaged: JPEG and PNG."""
    bgr = cv2.cvtColor(drive.frame(0.0, 256, 128), cv2.COLOR_RGB2BGR)
    return tuple(cv2.imencode(kind, bgr)[1].tobytes() for kind in (".jpg", ".png"))


def make(rng: np.random.Generator, folder: Path) -> Path:
    stamp, film = 10**18, []
    odd = rng.random() ** 2  # of the film's messages, this share is odd
    for _ in range(FRAMES):
        stamp += STEPS[rng.integers(len(STEPS))] if rng.random() < odd / 4 else GAP
        message = _raw(rng, odd) if rng.integers(2) else _compressed(rng, odd)
        film.append({**message, "stamp": stamp, "data": base64.b64encode(message["data"]).decode()})
    path = folder / "film.json"
    path.write_text(json.dumps({"fit": FITS[rng.integers(3)], "film": film}))
    return path


def read(path: Path) -> None:
    """As the node's worker: an error costs the frame that has it."""
    case = json.loads(path.read_text())
    session = EngineSession(read_bundle(bundles.whole()), engine="onnxruntime", threads=1)
    session.start()
    live = LivePipeline(session, case["fit"], 10.0, lambda event: None)
    refused: Re2pixError | None = None
    for fields in case["film"]:
        message = SimpleNamespace(**{**fields, "data": base64.b64decode(fields["data"])})
        try:
            live.judge(live.observe(decode(message), message.stamp, seed=0))
        except Re2pixError as error:
            refused = error
    if refused:
        raise refused


def _raw(rng: np.random.Generator, odd: float) -> dict[str, Any]:
    height, width = 128, 256
    encoding = str(rng.choice(ENCODINGS))
    kind = encoding.partition("_")[0]
    pixel = {"mono8": 1, "bayer": 1, "nv12": 1, "nv21": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}.get(kind, 2)
    message = {
        "encoding": encoding,
        "height": height,
        "width": width,
        "step": pixel * width,
        "is_bigendian": 0,
        "data": rng.bytes(pixel * width * height * 3 // 2),  # the largest needs half as much again
    }
    if rng.random() < odd:
        message["encoding"] = [*ENCODINGS, *NAMES][rng.integers(len(ENCODINGS) + len(NAMES))]
        for name in ("height", "width", "step"):
            if rng.integers(2):
                message[name] = SIZES[rng.integers(len(SIZES))]
        message["is_bigendian"] = int(rng.integers(256))
        message["data"] = message["data"][: int(rng.choice([0, 1, 1000, 10**9]))]
    return message


def _compressed(rng: np.random.Generator, odd: float) -> dict[str, Any]:
    data = whole()[rng.integers(2)]
    kind = "jpeg" if data is whole()[0] else "png"
    if rng.random() < odd:
        data = _resized_png(rng) if rng.integers(4) == 0 else damaged(rng, data)
        kind = ["jpeg", "png", *NAMES][rng.integers(2 + len(NAMES))]
    return {"format": kind, "data": data}


def _resized_png(rng: np.random.Generator) -> bytes:
    """A PNG whose header has another size, depth and colour type, and a right checksum."""
    data = bytearray(whole()[1])
    for at in (16, 20):
        data[at : at + 4] = int(EDGES[rng.integers(9)]).to_bytes(4, "big")
    data[24:26] = int(rng.choice([1, 8, 16])), int(rng.choice([0, 2, 3, 4, 6]))
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)
