"""The lots along a street: buildings, houses with gardens, walls, fences and parks."""

from dataclasses import dataclass, replace

import numpy as np

from re2pix_node.footage.cityscapes_classes import BUILDING, FENCE, TERRAIN, WALL
from re2pix_node.simulator.ground import CURB
from re2pix_node.simulator.mesh import Array, Mesh, Paint
from re2pix_node.simulator.plants import bush, hedge, leaf_paint, tree
from re2pix_node.simulator.streets import Street, Town
from re2pix_node.simulator.textures import FACADES, LAYER, SHOPS


@dataclass(frozen=True)
class Lot:
    """A piece of land: the middle of its front, the direction along the street, width and depth."""

    front: Array
    yaw: float
    width: float
    depth: float

    def at(self, along: float, back: float) -> Array:
        """A point `along` the front from its middle and `back` from the street."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return self.front + along * np.array([c, s]) + back * np.array([-s, c])

    def corners(self) -> Array:
        half = self.width / 2
        return np.array([self.at(x, y) for x in (-half, 0, half) for y in (0.3, self.depth)])


def build_side(mesh: Mesh, town: Town, street: Street, left: bool, rng: np.random.Generator) -> None:
    """Fill one side of a street with lots from one end to the other."""
    district = town.district
    sign = 1 if left else -1
    builders = (_building, _garden, _park, _wall)
    s = 0.0
    while s < street.line.length - 4:
        width = float(rng.uniform(6, 16))
        middle = min(s + width / 2, street.line.length)
        setback = float(rng.uniform(*district.setback))
        place, heading = street.line.at(middle, sign * (district.edge + setback))
        s += width
        # Walk along the street with the lot on the left: the other side goes in the opposite direction.
        lot = Lot(place, heading if left else heading + np.pi, width, float(rng.uniform(7, 12)))
        kind = builders[rng.choice(4, p=district.lots)]
        if not town.clear(lot.corners()[1::2], 0.2) or not town.clear(lot.corners()[::2], -0.6):
            kind = _corner
        kind(mesh, lot, district.floors, rng)


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    # Most walls are cream, grey or brick, a few are bold.
    base = rng.uniform(0.6, 1.15)
    red, green, blue = base * (np.array([1.05, 1.0, 0.92]) + rng.uniform(-0.22, 0.22, 3) * rng.uniform(0.1, 1) ** 2)
    return float(red), float(green), float(blue)


def _building(mesh: Mesh, lot: Lot, floors: tuple[int, int], rng: np.random.Generator) -> None:
    storey = rng.uniform(2.8, 3.5)
    count = int(rng.integers(floors[0], floors[1] + 1))
    height = count * storey
    tint = _colour(rng)
    bay = rng.uniform(8, 13)
    facade = Paint(BUILDING, LAYER[f"facade{rng.integers(FACADES)}"], tint, (bay, 4 * storey))
    centre, size = lot.at(0, lot.depth / 2), (lot.width - 0.02, lot.depth)
    base = CURB
    if rng.random() < 0.45:
        shop = Paint(BUILDING, LAYER[f"shop{rng.integers(SHOPS)}"], _colour(rng), (12.0, 4.0))
        mesh.block(centre, size, size, (base - 0.3, base + 4.0), shop, yaw=lot.yaw)
        if rng.random() < 0.5:
            awning = Paint(BUILDING, LAYER["cloth"], _colour(rng))
            mesh.block(lot.at(0, -0.6), (lot.width * 0.8, 1.2), (lot.width * 0.8, 0.3), (2.9, 3.4), awning, yaw=lot.yaw)
        base += 4.0
    mesh.block(
        centre, size, size, (base - 0.3, base + height), facade, replace(facade, layer=LAYER["concrete"]), lot.yaw
    )
    _top(mesh, lot, base + height, tint, rng)
    if rng.random() < 0.4:
        _balconies(mesh, lot, base, count, storey, tint, rng)


def _top(mesh: Mesh, lot: Lot, height: float, tint: tuple[float, float, float], rng: np.random.Generator) -> None:
    centre, size = lot.at(0, lot.depth / 2), (lot.width, lot.depth + 0.6)
    tiles = Paint(BUILDING, LAYER["roof_tiles"], (0.9, *(rng.uniform(0.4, 0.9, 2).tolist())), (4.0, 4.0))
    if rng.random() < 0.5:
        mesh.gable(centre, size, (height, height + rng.uniform(1.5, 4)), tiles, lot.yaw)
    else:
        ledge = Paint(BUILDING, LAYER["plaster"], tint).shade(0.7)
        mesh.block(centre, size, size, (height, height + 0.5), ledge, yaw=lot.yaw)
        box = Paint(BUILDING, LAYER["concrete"], (0.6, 0.6, 0.6))
        mesh.block(lot.at(rng.uniform(-2, 2), lot.depth / 2), (3, 3), (3, 3), (height, height + 2.5), box, yaw=lot.yaw)


def _balconies(
    mesh: Mesh,
    lot: Lot,
    base: float,
    count: int,
    storey: float,
    tint: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    paint = Paint(BUILDING, LAYER["plaster"], tint).shade(rng.uniform(0.5, 1.1))
    for floor in range(1 if base < 1 else 0, count):
        for along in np.arange(-lot.width / 2 + 2.2, lot.width / 2 - 1.5, 4.0).tolist():
            low = base + floor * storey
            mesh.block(lot.at(along, -0.4), (2.2, 0.8), (2.2, 0.8), (low, low + 1.0), paint, yaw=lot.yaw)


def _garden(mesh: Mesh, lot: Lot, floors: tuple[int, int], rng: np.random.Generator) -> None:
    _border(mesh, lot, rng)
    back = Lot(lot.at(0, float(rng.uniform(3, 5))), lot.yaw, lot.width * float(rng.uniform(0.6, 0.85)), 7.0)
    _building(mesh, back, floors, rng)
    for _ in range(rng.integers(1, 4)):
        (tree if rng.random() < 0.35 else bush)(mesh, lot.at(rng.uniform(-0.45, 0.45) * lot.width, 1.6), CURB, rng)


def _border(mesh: Mesh, lot: Lot, rng: np.random.Generator) -> None:
    """A hedge, a picket fence, a railing or a low wall along the front."""
    kind = rng.integers(4)
    place, height = lot.at(0, 0.15), rng.uniform(0.7, 1.6)
    if kind == 0:
        hedge(mesh, place, lot.width - 1.2, lot.yaw, height, CURB, leaf_paint(rng))
    elif kind == 1:
        wall = Paint(WALL, LAYER[str(rng.choice(["brick", "plaster", "concrete"]))], _colour(rng), (3.0, 3.0))
        size = (lot.width - 1.0, 0.25)
        mesh.block(place, size, size, (0, CURB + height), wall, yaw=lot.yaw)
    else:
        fence(mesh, lot, height, boards=kind == 2, rng=rng)


def fence(mesh: Mesh, lot: Lot, height: float, boards: bool, rng: np.random.Generator) -> None:
    """Posts, and boards or bars between them."""
    tint = _colour(rng)
    paint = Paint(FENCE, LAYER["wood" if boards else "plain"], tint if boards else (0.25, 0.28, 0.25), (1.5, 1.5))
    if boards:
        size = (lot.width - 0.6, 0.05)
        mesh.block(lot.at(0, 0.1), size, size, (CURB + 0.1, CURB + height), paint, yaw=lot.yaw)
        return
    for level in (0.25, 0.98):
        size = (lot.width, 0.05)
        low = CURB + level * height
        mesh.block(lot.at(0, 0.1), size, size, (low - 0.05, low + 0.03), paint, yaw=lot.yaw)
    for along in np.arange(-lot.width / 2, lot.width / 2, 0.28).tolist():
        mesh.block(lot.at(along, 0.1), (0.06, 0.04), (0.06, 0.04), (CURB, CURB + height), paint, yaw=lot.yaw)


def _park(mesh: Mesh, lot: Lot, floors: tuple[int, int], rng: np.random.Generator) -> None:
    grass = Paint(TERRAIN, LAYER["grass"], (1.0, 1.0, 0.9), (5.0, 5.0))
    half = lot.width / 2
    corners = [lot.at(-half, 0.1), lot.at(half, 0.1), lot.at(half, lot.depth), lot.at(-half, lot.depth)]
    mesh.quad([[*corner, CURB + 0.03] for corner in corners], grass)
    if rng.random() < 0.3:
        _border(mesh, lot, rng)
    for _ in range(rng.integers(2, 6)):
        tree(mesh, lot.at(rng.uniform(-half, half), rng.uniform(0.8, lot.depth)), CURB, rng)
    for _ in range(rng.integers(2, 7)):
        bush(mesh, lot.at(rng.uniform(-half, half), rng.uniform(0.5, lot.depth)), CURB, rng)


def _wall(mesh: Mesh, lot: Lot, floors: tuple[int, int], rng: np.random.Generator) -> None:
    """A high wall or fence, with trees behind it."""
    if rng.random() < 0.7:
        material = str(rng.choice(["graffiti", "brick", "concrete", "plaster"]))
        paint = Paint(WALL, LAYER[material], _colour(rng), (5.0, 3.0))
        size = (lot.width, 0.35)
        mesh.block(lot.at(0, 0.1), size, size, (0, rng.uniform(1.6, 3.2)), paint, yaw=lot.yaw)
    else:
        fence(mesh, lot, rng.uniform(1.4, 2.2), boards=False, rng=rng)
    for _ in range(rng.integers(0, 4)):
        tree(mesh, lot.at(rng.uniform(-0.5, 0.5) * lot.width, rng.uniform(2, 5)), CURB, rng)


def _corner(mesh: Mesh, lot: Lot, floors: tuple[int, int], rng: np.random.Generator) -> None:
    """Something small, where there is no room for a building."""
    if rng.random() < 0.5:
        bush(mesh, lot.at(0, 0.8), CURB, rng)
