"""Lines on the map, along which objects stand and move."""

import numpy as np

from re2pix_node.simulator.mesh import Array


class Line:
    """A smooth line through points (N x 2), addressed by the metres along it."""

    def __init__(self, points: Array) -> None:
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        keep = np.concatenate([[True], steps > 1e-6])
        self.points = points[keep]
        self.s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])
        self.length = float(self.s[-1])
        direction = np.gradient(self.points, self.s, axis=0)
        self.headings = np.unwrap(np.arctan2(direction[:, 1], direction[:, 0]))

    def at(self, s: float, side: float = 0.0) -> tuple[Array, float]:
        """The point `s` metres along and `side` metres to the left, and the heading there."""
        heading = float(np.interp(s, self.s, self.headings))
        x, y = np.interp(s, self.s, self.points[:, 0]), np.interp(s, self.s, self.points[:, 1])
        return np.array([x - side * np.sin(heading), y + side * np.cos(heading)]), heading

    def beside(self, side: float) -> Array:
        """The points moved `side` metres to the left."""
        normal = np.stack([-np.sin(self.headings), np.cos(self.headings)], axis=1)
        moved: Array = self.points + side * normal
        return moved

    def spaced(self, step: float) -> "Line":
        """The same line through points `step` metres apart."""
        s = np.linspace(0, self.length, max(int(self.length / step), 2) + 1)
        return Line(np.stack([np.interp(s, self.s, self.points[:, i]) for i in (0, 1)], axis=1))

    def smooth(self, metres: float) -> "Line":
        """The same line with its corners cut over this many metres; points must be evenly spaced."""
        reach = max(int(metres / max(self.s[1], 1e-6) / 2), 1)
        padded = np.pad(self.points, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
        kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
        return Line(np.stack([np.convolve(padded[:, i], kernel, mode="valid") for i in (0, 1)], axis=1))

    def curvature(self) -> Array:
        """1 / radius at every point."""
        curvature: Array = np.abs(np.gradient(self.headings, self.s))
        return curvature


def bezier(start: Array, control: Array, end: Array, count: int = 9) -> Array:
    """A curve from start to end that leaves and arrives towards `control`."""
    t = np.linspace(0, 1, count)[:, None]
    curve: Array = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
    return curve


def crossing(p: Array, d: Array, q: Array, e: Array) -> Array:
    """The intersection of the lines p + t d and q + u e; the middle of p and q if they are almost parallel."""
    turn = d[0] * e[1] - d[1] * e[0]
    if abs(turn) < 0.15:
        middle: Array = (p + q) / 2
        return middle
    t = ((q - p)[0] * e[1] - (q - p)[1] * e[0]) / turn
    point: Array = p + t * d
    return point
