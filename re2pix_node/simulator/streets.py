"""The map: a network of streets with their junctions, and the camera's route through it."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from re2pix_node.simulator.line import Line, bezier, crossing
from re2pix_node.simulator.mesh import Array

Node = tuple[int, int]


@dataclass(frozen=True)
class District:
    """The properties of a neighbourhood. Widths are in metres, speeds in m/s."""

    name: str
    spacing: float
    bend: float
    lanes: int
    lane_width: float
    parking: float
    sidewalk: float
    setback: tuple[float, float]
    floors: tuple[int, int]
    cruise: tuple[float, float]
    side_streets: float
    turns: float
    trees: float
    people: float
    traffic: float
    lots: tuple[float, float, float, float]  # shares of buildings, houses with gardens, parks, walls
    surfaces: tuple[str, ...]

    @property
    def half(self) -> float:
        """From the centre line to the curb."""
        return self.lanes * self.lane_width + self.parking

    @property
    def edge(self) -> float:
        """From the centre line to the end of the sidewalk."""
        return self.half + self.sidewalk


DISTRICTS = {
    "old town": District(
        "old town", 52, 0.06, 1, 2.7, 0.0, 1.5, (0.0, 0.2), (2, 5), (3.5, 8), 0.9, 0.3, 0.1, 1.5, 0.7,
        (0.9, 0.0, 0.03, 0.07), ("setts", "asphalt", "patched"),
    ),
    "city": District(
        "city", 66, 0.04, 1, 3.0, 2.1, 2.2, (0.0, 0.6), (3, 7), (4.5, 9.5), 0.9, 0.25, 0.6, 1.2, 1.0,
        (0.82, 0.0, 0.1, 0.08), ("asphalt", "patched"),
    ),
    "suburb": District(
        "suburb", 72, 0.12, 1, 2.8, 2.0, 1.7, (2.5, 5.5), (1, 2), (4.5, 9.5), 0.7, 0.25, 0.9, 0.6, 0.6,
        (0.15, 0.65, 0.12, 0.08), ("asphalt", "patched"),
    ),
    "avenue": District(
        "avenue", 95, 0.05, 2, 3.0, 2.1, 2.8, (0.0, 1.0), (4, 9), (6, 12), 0.8, 0.15, 1.0, 1.3, 1.0,
        (0.85, 0.0, 0.1, 0.05), ("asphalt", "patched"),
    ),
    "country road": District(
        "country road", 150, 0.16, 1, 3.2, 0.0, 1.2, (1.0, 3.0), (1, 2), (9, 17), 0.4, 0.1, 1.6, 0.25, 0.7,
        (0.1, 0.15, 0.6, 0.15), ("asphalt", "patched"),
    ),
    "motorway": District(
        "motorway", 320, 0.05, 2, 3.5, 0.8, 0.6, (0.5, 2.0), (1, 3), (20, 33), 0.0, 0.0, 1.5, 0.0, 1.0,
        (0.06, 0.0, 0.54, 0.4), ("asphalt", "patched"),
    ),
}  # fmt: skip
_SHARES = {"old town": 0.2, "city": 0.3, "suburb": 0.2, "avenue": 0.14, "country road": 0.1, "motorway": 0.06}


def pick_district(rng: np.random.Generator) -> District:
    names = list(_SHARES)
    return DISTRICTS[names[rng.choice(len(names), p=list(_SHARES.values()))]]


class Street(NamedTuple):
    """From the junction at `a` to the one at `b`; the line is its middle, without the junctions."""

    a: Node
    b: Node
    line: Line


class Arm(NamedTuple):
    """The place where a street leaves a junction: the middle of its end, and the direction away."""

    point: Array
    direction: Array
    to: Node


class Town:
    """Streets around a route: `route` is a list of nodes, `streets` are all streets visible from it."""

    def __init__(self, district: District, metres: float, rng: np.random.Generator) -> None:
        self.district = district
        count = int(metres / (district.spacing * 0.8)) + 3
        self._size = 2 * count + 3
        jitter = rng.uniform(-0.13, 0.13, (self._size, self._size, 2))
        grid = np.stack(np.meshgrid(np.arange(self._size), np.arange(self._size), indexing="ij"), axis=-1)
        self._places = (grid - count - 1 + jitter) * district.spacing
        self.route = _walk(self._size, count, district.turns, rng)
        pairs = self._pairs(rng)
        arms: dict[Node, list[tuple[float, Node]]] = {}
        for a, b in pairs:
            for here, there in ((a, b), (b, a)):
                d = self._places[there] - self._places[here]
                arms.setdefault(here, []).append((float(np.arctan2(d[1], d[0])), there))
        self._radius = {node: self._reach([angle for angle, _ in found]) for node, found in arms.items()}
        self.streets = [self._street(a, b, rng) for a, b in pairs]
        self.arms = {node: self._arms(node, found) for node, found in arms.items()}
        self._by_ends = {(street.a, street.b): street for street in self.streets}
        self.on_route = {frozenset(pair) for pair in pairwise(self.route)}
        self.middle = np.concatenate([street.line.points for street in self.streets])

    def place(self, node: Node) -> Array:
        """The middle of a junction."""
        place: Array = self._places[node]
        return place

    def lane(self, nodes: list[Node], right: float) -> Line:
        """The path through these nodes, `right` metres to the right of the middle of the streets."""
        pieces: list[Array] = []
        for a, b in pairwise(nodes):
            piece = self._directed(a, b).beside(-right)
            if pieces:
                before, d = pieces[-1][-1], pieces[-1][-1] - pieces[-1][-2]
                e = piece[0] - piece[1]
                pieces.append(bezier(before, crossing(before, d, piece[0], e), piece[0], 13)[1:-1])
            pieces.append(piece)
        return Line(np.concatenate(pieces)).spaced(0.5).smooth(3.0)

    def ways_across(self, node: Node) -> list[list[Node]]:
        """The paths over a junction of the route that come from its side streets."""
        used = {pair for pair in self.on_route if node in pair}
        sides = [arm.to for arm in self.arms[node] if frozenset((node, arm.to)) not in used]
        return [[side, node, arm.to] for side in sides for arm in self.arms[node] if arm.to != side]

    def clear(self, points: Array, margin: float) -> bool:
        """Whether the place is at least `margin` metres from the end of every sidewalk."""
        distance = np.linalg.norm(self.middle[None] - points[:, None], axis=-1).min()
        return bool(distance > self.district.edge + margin)

    def _directed(self, a: Node, b: Node) -> Line:
        if (a, b) in self._by_ends:
            return self._by_ends[a, b].line
        return Line(self._by_ends[b, a].line.points[::-1])

    def _pairs(self, rng: np.random.Generator) -> list[tuple[Node, Node]]:
        route = list(pairwise(self.route))
        pairs = list(route)
        taken = {frozenset(pair) for pair in pairs}
        for node in self.route[:-1]:
            for step in _STEPS:
                side = (node[0] + step[0], node[1] + step[1])
                inside = all(0 <= i < self._size for i in side)
                if rng.random() < self.district.side_streets and inside and frozenset((node, side)) not in taken:
                    pairs.append((node, side))
                    taken.add(frozenset((node, side)))
        return pairs

    def _reach(self, angles: list[float]) -> float:
        """The distance from a junction's middle to its end, where the sidewalks of its arms do not overlap."""
        if len(angles) < 2:
            return 3.0
        ordered = sorted(angles)
        gaps = np.diff([*ordered, ordered[0] + 2 * np.pi])
        return float(max(self.district.edge / np.tan(min(gaps.min(), 3.0) / 2) + 1.5, 3.0))

    def _street(self, a: Node, b: Node, rng: np.random.Generator) -> Street:
        start, end = self._places[a], self._places[b]
        length = float(np.linalg.norm(end - start))
        along = (end - start) / length
        s = np.linspace(self._radius[a], length - self._radius[b], max(int(length / 3), 6))
        share = (s - s[0]) / (s[-1] - s[0])
        bulge = rng.uniform(-1, 1) * self.district.bend * length * np.sin(np.pi * share) ** 2
        points = start + s[:, None] * along + bulge[:, None] * np.array([-along[1], along[0]])
        return Street(a, b, Line(points))

    def _arms(self, node: Node, found: list[tuple[float, Node]]) -> list[Arm]:
        arms = []
        for angle, there in sorted(found):
            direction = np.array([np.cos(angle), np.sin(angle)])
            arms.append(Arm(self._places[node] + self._radius[node] * direction, direction, there))
        return arms


_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def _walk(size: int, count: int, turns: float, rng: np.random.Generator) -> list[Node]:
    """A path over the grid that never comes near itself: it goes ahead, left or right, and never back."""
    node, step = (size // 2 - count // 2, size // 2), (1, 0)
    route = [node]
    while len(route) <= count:
        # Steps go forward or up or down, and never up after down without a step forward between them.
        if step != (1, 0):
            step = (1, 0)
        elif len(route) > 1 and rng.random() < turns:
            step = (0, 1) if rng.random() < 0.5 else (0, -1)
        node = (node[0] + step[0], node[1] + step[1])
        route.append(node)
    return route
