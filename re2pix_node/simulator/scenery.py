"""Everything in a town that never moves, as a few meshes."""

from dataclasses import dataclass

import numpy as np

from re2pix_node.footage.cityscapes_classes import ROAD
from re2pix_node.simulator.buildings import build_side
from re2pix_node.simulator.furniture import furnish_side, make_stock, signals
from re2pix_node.simulator.ground import ground_paints, lay_junction, lay_land, lay_street
from re2pix_node.simulator.mesh import Array, Mesh, Paint
from re2pix_node.simulator.streets import Town


@dataclass(frozen=True)
class Scenery:
    """`solid` is in small pieces, so that those outside the view can be skipped; `shadows` darken the ground."""

    solid: list[Mesh]
    shadows: Mesh


def build_scenery(town: Town, rng: np.random.Generator) -> Scenery:
    paints = ground_paints(town, rng)
    shadows, base = Mesh(), Mesh()
    lay_land(base, town, paints)
    for node in town.arms:
        lay_junction(base, town, node, paints)
    pieces = [base]

    def shade(place: Array, yaw: float, length: float, width: float, height: float = 0.02) -> None:
        blob(shadows, (*place, height), yaw, length, width)

    stock = make_stock(shade, rng)
    for street in town.streets:
        piece = Mesh()
        lay_street(piece, town, street, paints, rng)
        if town.district.side_streets > 0.5 and rng.random() < 0.5:
            signals(piece, street, town.district.half, stock.metal, rng)
        pieces.append(piece)
        for left in (True, False):
            side = Mesh()
            build_side(side, town, street, left, rng)
            furnish_side(side, town, street, left, stock, rng)
            pieces.append(side)
    return Scenery(pieces, shadows)


def blob(mesh: Mesh, place: tuple[float, float, float], yaw: float, length: float, width: float) -> None:
    """A soft dark patch: its darkness, the first texture coordinate, falls from the middle to the rim."""
    angles = np.linspace(0, 2 * np.pi, 13)
    c, s = np.cos(yaw), np.sin(yaw)
    ring = np.stack([np.cos(angles) * length, np.sin(angles) * width], axis=1) @ np.array([[c, s], [-s, c]])
    rings = [np.zeros((13, 2)), ring * 0.7, ring]
    points = np.concatenate([np.concatenate([r + place[:2], np.full((13, 1), place[2])], axis=1) for r in rings])
    uv = np.repeat([[0.9, 0], [0.8, 0], [0.0, 0]], 13, axis=0)
    i = np.concatenate([np.arange(12), np.arange(13, 25)])
    triangles = np.concatenate([np.stack([i, i + 13, i + 14], 1), np.stack([i, i + 14, i + 1], 1)])
    mesh.add(points, np.tile([0, 0, 1.0], (39, 1)), uv, triangles, Paint(ROAD))
