"""The moments of a clip as pictures, each a PNG."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from re2pix_node.evaluation.classes import Classes
from re2pix_node.evaluation.rows import COPY, FORECAST, ORACLE
from re2pix_node.evaluation.scoring import Snapshot

WIDTH = 360
# Colour-blind people can distinguish these.
DIFFERENCE = {
    "both right": (226, 226, 226),
    "only the forecast right": (0, 114, 178),
    "only copying right": (213, 94, 0),
    "both wrong": (110, 96, 110),
    "does not count": (0, 0, 0),
}


def panels(shot: Snapshot, classes: Classes, true_title: str) -> dict[str, bytes]:
    """Caption to PNG."""
    when = f"in {shot.seconds:.2f} s"
    masks = {
        f"{true_title}, {when}": shot.true,
        "copying the last frame": shot.masks[COPY],
        f"forecast, {when}": shot.masks[FORECAST],
        "oracle: head on the true future": shot.masks[ORACLE],
    }
    pictures = {"camera now": shot.picture}
    pictures |= {caption: classes.colours[mask] for caption, mask in masks.items()}
    pictures["difference to the reference"] = difference(shot, classes.count)
    return {caption: _png(picture) for caption, picture in pictures.items()}


def difference(shot: Snapshot, classes: int) -> NDArray[np.uint8]:
    """Which row is right at each pixel, in the colours of DIFFERENCE."""
    forecast, copy = (shot.masks[row] == shot.true for row in (FORECAST, COPY))
    kind = np.select([forecast & copy, forecast, copy], [0, 1, 2], 3)
    kind[shot.true == classes] = 4
    picture: NDArray[np.uint8] = np.array(list(DIFFERENCE.values()), np.uint8)[kind]
    return picture


def _png(picture: NDArray[Any]) -> bytes:
    height = round(WIDTH * picture.shape[0] / picture.shape[1])
    filtered = cv2.INTER_AREA if picture.shape[1] > WIDTH else cv2.INTER_NEAREST
    resized = cv2.resize(picture, (WIDTH, height), interpolation=filtered)
    return cv2.imencode(".png", cv2.cvtColor(np.asarray(resized, np.uint8), cv2.COLOR_RGB2BGR))[1].tobytes()
