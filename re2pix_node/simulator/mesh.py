"""Collects triangles; every vertex has its texture, its tint and its class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# Floats of a vertex: position 3, normal 3, texture coordinate 2, texture layer 1, class 1, tint 3.
FLOATS = 13


@dataclass(frozen=True)
class Paint:
    """The look and the class of a surface. `tile` is the width and height of the texture in metres."""

    label: int
    layer: int = 0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    tile: tuple[float, float] = (4.0, 4.0)

    def shade(self, factor: float) -> "Paint":
        """The same, darker or brighter."""
        red, green, blue = (min(channel * factor, 1.5) for channel in self.tint)
        return replace(self, tint=(red, green, blue))


class Mesh:
    """Counter-clockwise seen from outside; x forward, y left, z up."""

    def __init__(self) -> None:
        self._vertices: list[Array] = []
        self._triangles: list[Array] = []
        self._count = 0

    def arrays(self) -> tuple[Array, Array]:
        """Vertices (N x FLOATS, float32) and triangles (M x 3, uint32)."""
        if not self._vertices:
            return np.zeros((0, FLOATS), np.float32), np.zeros((0, 3), np.uint32)
        return np.concatenate(self._vertices).astype(np.float32), np.concatenate(self._triangles).astype(np.uint32)

    def add(self, points: Array, normals: Array, uv: Array, triangles: Array, paint: Paint) -> None:
        """Adds N vertices (N x 3, N x 3, N x 2) and the triangles between them."""
        block = np.empty((len(points), FLOATS))
        block[:, :3] = points
        block[:, 3:6] = normals
        block[:, 6:8] = uv
        block[:, 8] = paint.layer
        block[:, 9] = paint.label
        block[:, 10:] = paint.tint
        self._vertices.append(block)
        self._triangles.append(np.asarray(triangles) + self._count)
        self._count += len(points)

    def place(self, other: "Mesh", position: Sequence[float] | Array, yaw: float = 0.0, scale: float = 1.0) -> None:
        """Adds a copy of another mesh, turned and moved."""
        vertices, triangles = other.arrays()
        block = vertices.astype(float)
        turn = rotation(yaw)
        block[:, :3] = block[:, :3] @ turn.T * scale + np.asarray(position)
        block[:, 3:6] = block[:, 3:6] @ turn.T
        self._vertices.append(block)
        self._triangles.append(triangles + self._count)
        self._count += len(block)

    def quad(self, corners: Any, paint: Paint) -> None:
        """A flat face of four corners; the texture starts at the first one, upright along the last."""
        points = np.asarray(corners, float)
        across, up = points[1] - points[0], points[3] - points[0]
        (ax, ay, az), (bx, by, bz) = across.tolist(), up.tolist()
        # A town has many thousands of these, and numpy's functions are slow on three numbers.
        normal = np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
        normal /= max(math.hypot(*normal.tolist()), 1e-9)
        u, v = math.hypot(ax, ay, az) / paint.tile[0], math.hypot(bx, by, bz) / paint.tile[1]
        self.add(points, np.tile(normal, (4, 1)), np.array([[0, 0], [u, 0], [u, v], [0, v]]), _QUAD, paint)

    def ribbon(self, left: Array, right: Array, paint: Paint) -> None:
        """A band between two lines of N points (N x 3) that faces up if `left` is on the left."""
        n = len(left)
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(left + right, axis=0), axis=1) / 2)])
        width = np.linalg.norm(left - right, axis=1)
        direction = np.gradient(left + right, axis=0)
        normal = np.cross(direction, left - right)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        u, v = along / paint.tile[0], width / paint.tile[1]
        uv = np.concatenate([np.stack([u, v], 1), np.stack([u, np.zeros(n)], 1)])
        i = np.arange(n - 1)
        triangles = np.concatenate([np.stack([n + i, n + i + 1, i + 1], 1), np.stack([n + i, i + 1, i], 1)])
        self.add(np.concatenate([left, right]), np.concatenate([normal, normal]), uv, triangles, paint)

    def fan(self, centre: Array, rim: Array, paint: Paint) -> None:
        """A flat, upward polygon (rim counter-clockwise, N x 3), with its texture laid on the map."""
        points = np.concatenate([centre[None], rim])
        i = np.arange(len(rim))
        triangles = np.stack([np.zeros_like(i), i + 1, (i + 1) % len(rim) + 1], 1)
        normals = np.tile([0.0, 0.0, 1.0], (len(points), 1))
        self.add(points, normals, points[:, :2] / np.asarray(paint.tile), triangles, paint)

    def block(
        self,
        centre: Sequence[float] | Array,
        bottom: Sequence[float],
        top: Sequence[float],
        heights: Sequence[float],
        sides: Paint,
        lid: Paint | None = None,
        yaw: float = 0.0,
        lean: float = 0.0,
    ) -> None:
        """A box whose lid may be smaller: sizes (length, width), heights (from, to), the lid moved ahead by `lean`."""
        turn = rotation(yaw)
        low = _rectangle(bottom, 0.0, heights[0])
        high = _rectangle(top, lean, heights[1])
        low, high = (c @ turn.T + np.array([centre[0], centre[1], 0.0]) for c in (low, high))
        for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
            self.quad([low[a], low[b], high[b], high[a]], sides)
        if min(top) > 0:
            self.quad(high, lid or sides)

    def gable(
        self, centre: Sequence[float] | Array, size: Sequence[float], heights: Sequence[float], paint: Paint, yaw: float
    ) -> None:
        """A roof with its ridge along the length, and the triangles below it."""
        turn = rotation(yaw)
        length, width = size[0] / 2, size[1] / 2
        base = _rectangle(size, 0.0, heights[0])
        ridge = np.array([[length, 0, heights[1]], [-length, 0, heights[1]]])
        base, ridge = (c @ turn.T + np.array([centre[0], centre[1], 0.0]) for c in (base, ridge))
        self.quad([base[3], base[0], ridge[0], ridge[1]], paint)
        self.quad([base[1], base[2], ridge[1], ridge[0]], paint)
        for low_a, low_b, high in ((base[0], base[1], ridge[0]), (base[2], base[3], ridge[1])):
            self.quad([low_a, low_b, high, high], replace(paint, tile=(width, width)).shade(0.9))

    def tube(
        self, start: Any, end: Any, radii: Sequence[float], paint: Paint, sides: int = 6, cap: bool = False
    ) -> None:
        """A round bar or a cone, optionally capped at its end and start."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        axis = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
        helper = np.array([1.0, 0, 0]) if abs(axis[0]) < 0.9 else np.array([0, 1.0, 0])
        first = np.cross(axis, helper)
        first /= np.linalg.norm(first)
        second = np.cross(axis, first)
        angles = np.linspace(0, 2 * np.pi, sides + 1)
        ring = np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * second
        points = np.concatenate([start + ring * radii[0], end + ring * radii[1]])
        u = angles / (2 * np.pi)
        v = np.linalg.norm(end - start) / paint.tile[1]
        uv = np.concatenate([np.stack([u, 0 * u], 1), np.stack([u, 0 * u + v], 1)])
        n = sides + 1
        i = np.arange(sides)
        triangles = np.concatenate([np.stack([i, i + 1, n + i + 1], 1), np.stack([i, n + i + 1, n + i], 1)])
        self.add(points, np.concatenate([ring, ring]), uv, triangles, paint)
        if cap:
            fan = np.stack([0 * i[:-2], i[1:-1], i[2:]], 1)
            self.add(end + ring[:-1] * radii[1], np.tile(axis, (sides, 1)), ring[:-1, :2], fan, paint)
            self.add(start + ring[:-1] * radii[0], np.tile(-axis, (sides, 1)), ring[:-1, :2], fan[:, ::-1], paint)

    def ball(self, centre: Any, radii: Any, paint: Paint, bumps: Array | None = None, segments: int = 8) -> None:
        """An ellipsoid; `bumps` (random, at least 5 x segments) make it a boulder or a bush."""
        rings = max(segments * 3 // 4, 4)
        theta = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)
        phi = np.linspace(0, 2 * np.pi, segments + 1)
        t, p = np.meshgrid(theta, phi, indexing="ij")
        unit = np.stack([np.cos(t) * np.cos(p), np.cos(t) * np.sin(p), np.sin(t)], -1)
        scale = np.ones_like(t)
        if bumps is not None:
            scale[1:-1, :-1] += np.resize(bumps, (rings - 1, segments))
            scale[:, -1] = scale[:, 0]
        points = (unit * scale[..., None] * np.asarray(radii) + np.asarray(centre)).reshape(-1, 3)
        around = 2 * np.pi * float(np.max(radii)) / paint.tile[0]
        uv = np.stack([p / (2 * np.pi) * around, (t / np.pi + 0.5) * around / 2], -1).reshape(-1, 2)
        n = segments + 1
        i = (np.arange(rings)[:, None] * n + np.arange(segments)).ravel()
        triangles = np.concatenate([np.stack([i, i + 1, i + n + 1], 1), np.stack([i, i + n + 1, i + n], 1)])
        self.add(points, unit.reshape(-1, 3), uv, triangles, paint)

    def cards(self, centres: Array, axes: Array, out: Array, paint: Paint) -> None:
        """N square pictures with holes, seen from both sides: centres, half axes (N x 2 x 3), normals that shade."""
        for centre, (a, b), normal in zip(centres, axes, out, strict=True):
            points = np.array([centre - a - b, centre + a - b, centre + a + b, centre - a + b])
            uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
            both = np.concatenate([_QUAD, _QUAD[:, ::-1]])
            self.add(points, np.tile(normal, (4, 1)), uv, both, paint)


_QUAD = np.array([[0, 1, 2], [0, 2, 3]])


def vector(x: float, y: float, z: float) -> Array:
    return np.array([x, y, z])


def rotation(yaw: float) -> Array:
    """About the vertical axis."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _rectangle(size: Sequence[float], ahead: float, height: float) -> Array:
    x, y = size[0] / 2, size[1] / 2
    return np.array([[ahead + x, -y, height], [ahead + x, y, height], [ahead - x, y, height], [ahead - x, -y, height]])
