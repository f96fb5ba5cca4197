"""Flat surfaces: carriageways, markings, curbs, sidewalks, junctions and the land around them."""

from dataclasses import dataclass

import numpy as np

from re2pix_node.footage.cityscapes_classes import ROAD, SIDEWALK, TERRAIN
from re2pix_node.simulator.line import Line, bezier, crossing
from re2pix_node.simulator.mesh import Array, Mesh, Paint
from re2pix_node.simulator.streets import Arm, Node, Street, Town
from re2pix_node.simulator.textures import LAYER

CURB = 0.12
# Height of markings above the road, enough for the depth buffer.
PAINTED = 0.012


@dataclass(frozen=True)
class GroundPaints:
    road: Paint
    marking: Paint
    sidewalk: Paint
    curb: Paint
    land: Paint


def ground_paints(town: Town, rng: np.random.Generator) -> GroundPaints:
    surface = str(rng.choice(town.district.surfaces))
    grey = rng.uniform(0.55, 1.0)
    warm = np.array([1 + rng.uniform(-0.04, 0.06), 1.0, 1 + rng.uniform(-0.06, 0.05)]) * grey
    paving = str(rng.choice(["slabs", "cobbles", "concrete", "asphalt"]))
    stone = rng.uniform(0.75, 1.15) * np.array([1.0, rng.uniform(0.9, 1.0), rng.uniform(0.8, 1.0)])
    paved = town.district.setback[1] < 1.5
    white = rng.uniform(0.75, 1.2)
    grass = rng.uniform(0.7, 1.2) * np.array([rng.uniform(0.8, 1.5), 1.0, rng.uniform(0.7, 1.1)])
    return GroundPaints(
        road=Paint(ROAD, LAYER[surface], _rgb(warm), (6.0, 6.0) if surface != "setts" else (3.0, 3.0)),
        marking=Paint(ROAD, LAYER["plain"], (white, white, white)),
        sidewalk=Paint(SIDEWALK, LAYER[paving], _rgb(stone), (3.0, 3.0)),
        curb=Paint(SIDEWALK, LAYER["concrete"], (0.85, 0.85, 0.85), (2.0, 2.0)),
        land=Paint(SIDEWALK, LAYER[paving], _rgb(stone * 0.9), (3.0, 3.0))
        if paved
        else Paint(TERRAIN, LAYER["grass"], _rgb(grass), (5.0, 5.0)),
    )


def _rgb(colour: Array) -> tuple[float, float, float]:
    return float(colour[0]), float(colour[1]), float(colour[2])


def flat(points: Array, height: float) -> Array:
    """Points on the map (N x 2) at a height."""
    return np.concatenate([points, np.full((len(points), 1), height)], axis=1)


def lay_street(mesh: Mesh, town: Town, street: Street, paints: GroundPaints, rng: np.random.Generator) -> None:
    """The carriageway of a street with its markings, its curbs and sidewalks, and the land behind them."""
    line, district = street.line.spaced(3.0), town.district
    half, edge = district.half, district.edge
    mesh.ribbon(flat(line.beside(half), 0), flat(line.beside(-half), 0), paints.road)
    for side in (1, -1):
        curb, outer = line.beside(side * half), line.beside(side * edge)
        far = line.beside(side * (edge + 12))
        top, low = flat(curb, CURB), flat(curb, 0)
        bands = [(flat(outer, CURB), top, paints.sidewalk), (flat(far, CURB), flat(outer, CURB), paints.land)]
        for left, right, paint in bands:
            mesh.ribbon(left if side > 0 else right, right if side > 0 else left, paint)
        mesh.ribbon(top if side > 0 else low, low if side > 0 else top, paints.curb)
    _close_ends(mesh, line, half, edge, paints)
    if paints.road.layer != LAYER["setts"]:
        _mark(mesh, town, street, paints.marking, rng)


def _close_ends(mesh: Mesh, line: Line, half: float, edge: float, paints: GroundPaints) -> None:
    """Overlaps under the seams between a street and its junctions, which do not meet exactly."""
    for s in (0.0, line.length):
        for low, high, height, paint in (
            (-half, half, 0.0, paints.road),
            (half, edge, CURB, paints.sidewalk),
            (-edge, -half, CURB, paints.sidewalk),
        ):
            heading = line.at(s)[1]
            along = np.array([np.cos(heading), np.sin(heading)])
            left, right = (line.at(s, side)[0] for side in (high, low))
            left, right = (flat(np.array([p - along, p + along]), height - 0.01) for p in (left, right))
            mesh.ribbon(left, right, paint)


def _mark(mesh: Mesh, town: Town, street: Street, paint: Paint, rng: np.random.Generator) -> None:
    line, district = street.line.spaced(1.0), town.district
    dashes: list[float] = []
    solid: list[float] = []
    (solid if rng.random() < 0.3 else dashes).append(0.0)
    for lane in range(1, district.lanes):
        dashes += [lane * district.lane_width, -lane * district.lane_width]
    rim = district.lanes * district.lane_width - 0.1
    solid += [rim, -rim] if rng.random() < 0.6 or district.name == "motorway" else []
    for side in solid:
        _stripe(mesh, line.beside(side + 0.06), line.beside(side - 0.06), paint)
    period = int(rng.integers(6, 10))
    for side in dashes:
        left, right = line.beside(side + 0.07), line.beside(side - 0.07)
        for start in range(0, len(left) - 4, period):
            _stripe(mesh, left[start : start + 4], right[start : start + 4], paint)
    if district.side_streets and rng.random() < 0.8:
        for end in (True, False):
            _zebra(mesh, street, end, district.half, paint, stripes=bool(rng.random() < 0.7))


def _stripe(mesh: Mesh, left: Array, right: Array, paint: Paint) -> None:
    mesh.ribbon(flat(left, PAINTED), flat(right, PAINTED), paint)


def _zebra(mesh: Mesh, street: Street, end: bool, half: float, paint: Paint, stripes: bool) -> None:
    """A crossing for people at the end of a street, or only a stop line."""
    length = street.line.length
    if length < 12:
        return
    near, far = (length - 1.0, length - 4.0) if end else (1.0, 4.0)
    stop = far + (-1.2 if end else 1.2)
    bars = [(near, far, y, 0.25) for y in np.arange(-half + 0.6, half - 0.3, 1.0).tolist()] if stripes else []
    bars.append((stop, stop + 0.35, -half / 2 if end else half / 2, half / 2 - 0.2))
    for start, stop_, middle, width in bars:
        a, b = min(start, stop_), max(start, stop_)
        left = np.array([street.line.at(s, middle + width)[0] for s in (a, b)])
        right = np.array([street.line.at(s, middle - width)[0] for s in (a, b)])
        _stripe(mesh, left, right, paint)


def lay_junction(mesh: Mesh, town: Town, node: Node, paints: GroundPaints) -> None:
    """The carriageway of a junction, and the sidewalks around its corners."""
    arms, half, edge = town.arms[node], town.district.half, town.district.edge
    if len(arms) < 2:
        return
    rim = []
    for arm, after in zip(arms, arms[1:] + arms[:1], strict=True):
        curb, outer = _corner(arm, after, half), _corner(arm, after, edge)
        rim += [arm.point - _left(arm) * half, *curb]
        mesh.ribbon(flat(curb, CURB), flat(outer, CURB), paints.sidewalk)
        mesh.ribbon(flat(curb, 0), flat(curb, CURB), paints.curb)
    mesh.fan(np.array([*town.place(node), 0.0]), flat(np.array(rim), 0), paints.road)


def _left(arm: Arm) -> Array:
    return np.array([-arm.direction[1], arm.direction[0]])


def _corner(arm: Arm, after: Arm, side: float) -> Array:
    start, end = arm.point + _left(arm) * side, after.point - _left(after) * side
    return bezier(start, crossing(start, arm.direction, end, after.direction), end, 9)


def lay_land(mesh: Mesh, town: Town, paints: GroundPaints) -> None:
    """The land under everything, a little lower than the roads."""
    low, high = town.middle.min(axis=0) - 150, town.middle.max(axis=0) + 150
    for x in np.arange(low[0], high[0], 60.0):
        for y in np.arange(low[1], high[1], 60.0):
            mesh.quad(flat(np.array([[x, y], [x + 60, y], [x + 60, y + 60], [x, y + 60]]), -0.06), paints.land)
