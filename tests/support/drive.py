"""A made-up drive down a street, drawn with OpenCV: houses, trees, parked cars and a car ahead, seen in perspective."""

import cv2
import numpy as np

# What each class of the tiny bundle looks like: mean colour (RGB) and height in the picture (0 = top).
LOOKS = {
    "road": ((96, 96, 100), 0.8),
    "building": ((156, 120, 96), 0.4),
    "vegetation": ((70, 130, 60), 0.5),
    "sky": ((150, 190, 235), 0.15),
    "car": ((200, 50, 50), 0.55),
}
SPEED = 11.0  # metres a second
CAMERA_HEIGHT = 1.4
NEAR, FAR = 2.0, 90.0


def frame(seconds: float, width: int, height: int) -> np.ndarray:
    """The view after this many seconds, [height, width, 3] RGB."""
    picture = np.empty((height, width, 3), np.uint8)
    horizon = int(height * 0.42)
    picture[:horizon] = LOOKS["sky"][0]
    picture[horizon:] = LOOKS["vegetation"][0]
    view = _View(picture, horizon)
    view.ground(-4.5, 4.5, NEAR, FAR, LOOKS["road"][0])
    travelled = SPEED * seconds
    for z in _ahead(travelled, every=6.0):
        view.ground(-0.1, 0.1, max(z, NEAR), z + 2.5, (225, 225, 225))
    for z, kind in _things(travelled):
        kind(view, z)
    return picture


class _View:
    """A pinhole camera above the road, looking along it. X is to the right, Z ahead, both in metres."""

    def __init__(self, picture: np.ndarray, horizon: int) -> None:
        self.picture = picture
        self.horizon = horizon
        self.focal = 0.8 * picture.shape[1]

    def point(self, x: float, up: float, z: float) -> tuple[float, float]:
        return (
            self.picture.shape[1] / 2 + self.focal * x / z,
            self.horizon + self.focal * (CAMERA_HEIGHT - up) / z,
        )

    def fill(self, corners: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        cv2.fillConvexPoly(self.picture, np.round(np.array(corners) * 16).astype(np.int32), colour, cv2.LINE_AA, 4)

    def ground(self, left: float, right: float, near: float, far: float, colour: tuple[int, int, int]) -> None:
        if far > near:
            corners = [(left, near), (right, near), (right, far), (left, far)]
            self.fill([self.point(x, 0, z) for x, z in corners], colour)

    def front(
        self, left: float, right: float, bottom: float, top: float, z: float, colour: tuple[int, int, int]
    ) -> None:
        corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
        self.fill([self.point(x, up, z) for x, up in corners], colour)


def _ahead(travelled: float, every: float, offset: float = 0.0) -> list[float]:
    """Distances to things that stand along the road at even steps, the nearest first."""
    first = NEAR + (offset - travelled) % every
    return list(np.arange(first, FAR, every))


def _things(travelled: float) -> list:
    things = []
    for side in (-1, 1):
        things += [(z, _house(side)) for z in _ahead(travelled, 17.0, 5.0 * side)]
        things += [(z, _tree(side)) for z in _ahead(travelled, 9.0, 3.0 * side)]
    things += [(z, _car(3.4)) for z in _ahead(travelled, 23.0, 7.0)]
    # The car ahead closes in and falls back.
    things.append((14.0 + 7.0 * np.sin(travelled / 18.0), _car(0.6)))
    return sorted(things, key=lambda thing: -thing[0])


def _house(side: int):
    def draw(view: _View, z: float) -> None:
        left, right = sorted((side * 9.0, side * 20.0))
        view.front(left, right, 0, 7, z + 4, LOOKS["building"][0])
        for x in np.linspace(left + 1.5, right - 2.5, 3):
            view.front(x, x + 1.2, 3.5, 5.2, z + 4, (80, 90, 110))

    return draw


def _tree(side: int):
    def draw(view: _View, z: float) -> None:
        view.front(side * 6.2 - 0.15, side * 6.2 + 0.15, 0, 2.5, z, (90, 70, 50))
        view.front(side * 6.2 - 1.2, side * 6.2 + 1.2, 2.0, 4.6, z, (60, 120, 50))

    return draw


def _car(x: float):
    def draw(view: _View, z: float) -> None:
        view.front(x - 0.9, x + 0.9, 0.3, 1.5, z, LOOKS["car"][0])
        view.front(x - 0.7, x + 0.7, 0.9, 1.4, z, (60, 70, 90))
        view.front(x - 0.9, x + 0.9, 0.0, 0.3, z, (30, 30, 30))

    return draw
