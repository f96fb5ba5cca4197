"""The actors on the street: the camera car, other drivers, riders and walkers, with their shapes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from re2pix_node.simulator.ground import CURB
from re2pix_node.simulator.line import Line
from re2pix_node.simulator.mesh import Array, Mesh
from re2pix_node.simulator.people import hip_height, leg_pose, make_rider, make_walker
from re2pix_node.simulator.streets import Node, Town
from re2pix_node.simulator.traffic import Driver, Walker
from re2pix_node.simulator.vehicles import make_vehicle

# An instance is an object (1..255) plus 256 times its part: 0 is the body, 1 and 2 are the legs of a walker.
MOST_OBJECTS = 255
PART = 256


@dataclass(frozen=True)
class Actor:
    """A visible actor: its driver or walker, and the meshes of its parts."""

    who: Driver | Walker
    parts: list[Mesh]

    def poses(self) -> list[Array] | None:
        """The poses of its parts (4 x 4, to the map); None after it has left the street."""
        if isinstance(self.who, Driver):
            if self.who.gone:
                return None
            place, heading = self.who.place()
            return [standing(place, 0.0, heading)]
        place, heading = self.who.line.at(self.who.s)
        on_road = self.who.trigger > 0 and 0.35 < self.who.s < self.who.line.length - 0.35
        body = standing(place, 0.0 if on_road else CURB, heading)
        if len(self.parts) == 1:
            return [body]
        hip, swing = hip_height(self.parts[1]), self.who.swing
        return [body, leg_pose(body, swing, hip), leg_pose(body, -swing, hip)]


def standing(place: Array, height: float, heading: float) -> Array:
    """The pose of an upright object."""
    c, s = np.cos(heading), np.sin(heading)
    return np.array([[c, -s, 0, place[0]], [s, c, 0, place[1]], [0, 0, 1, height], [0, 0, 0, 1.0]])


def make_camera_car(town: Town, rng: np.random.Generator) -> Driver:
    district = town.district
    lane = int(rng.integers(district.lanes))
    line = town.lane(town.route, (lane + 0.5) * district.lane_width - 0.15)
    cruise = float(rng.uniform(*district.cruise))
    car = Driver(line, float(rng.uniform(8, 30)), cruise, 4.4, 1.8)
    # Some drives start at the curb, most in moving traffic.
    car.speed = 0.0 if rng.random() < 0.15 else car.allowed() * float(rng.uniform(0.7, 1))
    return car


def make_cast(town: Town, camera: Driver, rng: np.random.Generator) -> list[Actor]:
    """All actors except the camera car, the most important first."""
    actors = [*_vehicles(town, camera, rng), *_crossers(town, camera, rng), *_riders(town, camera, rng)]
    actors += _walkers(town, rng)
    return actors[:MOST_OBJECTS]


def _vehicles(town: Town, camera: Driver, rng: np.random.Generator) -> Iterator[Actor]:
    district = town.district
    for lane in range(district.lanes):
        right = (lane + 0.5) * district.lane_width
        same, oncoming = town.lane(town.route, right), town.lane(town.route[::-1], right)
        s = camera.s + float(rng.uniform(14, 50))
        own = np.linalg.norm(same.points[0] - camera.line.points[0]) < 1
        while s < same.length - 30:
            # Sometimes slower than the camera car, so that the camera car must brake or overtake.
            yield _vehicle(
                same, s, camera.cruise * float(rng.uniform(0.75, 1.1) if own else rng.uniform(0.5, 1.3)), rng
            )
            s += float(rng.exponential(45) + 12) / district.traffic
        if district.lanes > 1:
            yield _vehicle(same, max(camera.s - float(rng.uniform(20, 60)), 2), camera.cruise * 1.4, rng)
        s = float(rng.uniform(5, 30))
        while s < oncoming.length - camera.s - 12:
            yield _vehicle(oncoming, s, camera.cruise * float(rng.uniform(0.8, 1.15)), rng)
            s += float(rng.exponential(30) + 10) / district.traffic
    for node in town.route[1:-1]:
        for way in town.ways_across(node):
            if rng.random() < 0.35 * district.traffic:
                yield _vehicle(_lane(town, way), float(rng.uniform(2, 25)), float(rng.uniform(5, 9)), rng)


def _lane(town: Town, way: list[Node]) -> Line:
    return town.lane(way, 0.5 * town.district.lane_width)


def _vehicle(line: Line, s: float, cruise: float, rng: np.random.Generator) -> Actor:
    kind = str(rng.choice(["car", "van", "truck", "bus", "motorcycle"], p=[0.68, 0.1, 0.09, 0.06, 0.07]))
    if kind == "motorcycle":
        mesh, length, width = make_rider("motorcycle", rng), 2.0, 0.8
    else:
        vehicle = make_vehicle(kind, rng)
        mesh, length, width = vehicle.mesh, vehicle.length, vehicle.width
    driver = Driver(line, s, cruise, length, width)
    driver.speed = driver.allowed() * float(rng.uniform(0.6, 1))
    return Actor(driver, [mesh])


def _riders(town: Town, camera: Driver, rng: np.random.Generator) -> Iterator[Actor]:
    """Cyclists at the right edge of the lanes, in both directions."""
    district = town.district
    if district.name == "motorway":
        return
    right = district.lanes * district.lane_width - 0.15
    for nodes, start in ((town.route, camera.s + 8), (town.route[::-1], 0.0)):
        line = town.lane(nodes, right)
        s = start + float(rng.uniform(0, 50))
        while s < line.length - 10:
            driver = Driver(line, s, float(rng.uniform(3, 7)), 1.8, 0.5)
            driver.speed = driver.allowed()
            yield Actor(driver, [make_rider("bicycle", rng)])
            s += float(rng.exponential(70) + 15)


def _crossers(town: Town, camera: Driver, rng: np.random.Generator) -> Iterator[Actor]:
    """People who walk in front of the camera car."""
    district = town.district
    if district.people < 0.3:
        return
    s = camera.s + float(rng.uniform(15, 60))
    while s < camera.line.length - 10:
        heading = camera.line.at(s)[1]
        towards = 1 if rng.random() < 0.5 else -1
        across = np.array([-np.sin(heading), np.cos(heading)]) * towards
        reach = 2 * district.half + 1.0
        middle, _ = camera.line.at(s, (0.5 * district.lane_width if district.lanes == 1 else district.lane_width))
        start = middle - across * reach / 2
        line = Line(np.stack([start, start + across * reach]))
        for _ in range(int(rng.integers(1, 3))):
            yield _walker(line, 0.0, float(rng.uniform(1.1, 2.0)), rng, s, camera.cruise * float(rng.uniform(1.8, 3.5)))
            line = Line(line.points + rng.normal(0, 0.6, 2))
        s += float(rng.exponential(40) + 25)


def _walkers(town: Town, rng: np.random.Generator) -> Iterator[Actor]:
    """People on the sidewalks: along the route first, then in the side streets."""
    district = town.district
    streets = sorted(town.streets, key=lambda street: frozenset((street.a, street.b)) not in town.on_route)
    for street in streets:
        for _ in range(int(rng.poisson(district.people * street.line.length / 7))):
            side = (district.half + rng.uniform(0.5, max(district.sidewalk - 0.3, 0.7))) * rng.choice([-1, 1])
            points = street.line.beside(side)
            line = Line(points if rng.random() < 0.5 else points[::-1])
            speed = float(rng.uniform(0.9, 1.9)) if rng.random() < 0.8 else 0.0
            yield _walker(line, float(rng.uniform(0, line.length * 0.8)), speed, rng)


def _walker(
    line: Line, s: float, speed: float, rng: np.random.Generator, trigger_at: float = -1.0, trigger: float = 0.0
) -> Actor:
    waits = trigger > 0
    walker = Walker(line, s, speed, float(rng.uniform(1.2, 1.6)), trigger_at, trigger, not waits and speed > 0)
    walker.phase = float(rng.uniform(0, 6))
    return Actor(walker, make_walker(rng, standing=speed == 0))
