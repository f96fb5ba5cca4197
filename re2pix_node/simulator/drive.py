"""A simulated drive: everything that a camera on a car sees while it drives through the town of one seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from re2pix_node.simulator.cast import PART, Actor, make_camera_car, make_cast, standing
from re2pix_node.simulator.mesh import Array, Mesh
from re2pix_node.simulator.renderer import Lens, Shot, StreetRasterizer
from re2pix_node.simulator.scenery import blob, build_scenery
from re2pix_node.simulator.sky import make_light
from re2pix_node.simulator.streets import Town, pick_district
from re2pix_node.simulator.textures import make_textures
from re2pix_node.simulator.traffic import Driver, Traffic

# Farther away, moving objects have only a few pixels.
SIGHT = 120.0
# Camera axes: x right, y down, z ahead. Car axes: x ahead, y left, z up.
_OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


@dataclass(frozen=True)
class Moment:
    """One frame: the picture, the camera's pose, and the poses of moving objects by instance (4 x 4, to the map)."""

    shot: Shot
    camera: Array
    objects: dict[int, Array]
    speed: float


class Mount:
    """The camera's mount on the car, and the motion of the car under it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.height = float(rng.uniform(1.15, 1.75) if rng.random() < 0.85 else rng.uniform(1.9, 2.4))
        self.pitch = float(np.radians(rng.uniform(-2, 7)))
        self.yaw = float(np.radians(rng.normal(0, 1.0)))
        self.roll = float(np.radians(rng.normal(0, 0.5)))
        self.roughness = float(rng.uniform(0.2, 1.3))
        self._waves = rng.uniform(0, 2 * np.pi, (3, 5))
        self._lengths = rng.uniform(1.7, 14, (3, 5))
        self._dive = 0.0

    def pose(self, car: Driver, dt: float) -> Array:
        """The camera's pose; the car pitches when it brakes, leans in curves, and the road is not even."""
        self._dive += (car.acceleration - self._dive) * min(dt / 0.25, 1.0)
        place, heading = car.place()
        bumps = (np.sin(2 * np.pi * car.s / self._lengths + self._waves) * self._lengths**0.3).sum(axis=1)
        heave, nod, sway = bumps * self.roughness * np.array([0.002, 0.0005, 0.0006])
        bend = car.line.at(car.s + 1)[1] - car.line.at(car.s - 1)[1]
        lean = 0.004 * car.speed**2 * bend / 2
        pitch = self.pitch - 0.006 * self._dive + nod
        pose = standing(place, self.height + heave, heading + self.yaw)
        pose[:3, :3] = pose[:3, :3] @ _about_y(pitch) @ _about_x(self.roll + lean + sway) @ _OPTICAL
        return pose


def _about_y(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _about_x(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


class Drive:
    """The drive of a seed. `frames` renders it; another length or size gives another drive."""

    def __init__(self, seed: int, seconds: float, rate: float, size: tuple[int, int]) -> None:
        rng = np.random.default_rng(seed)
        self.district = pick_district(rng)
        self.light = make_light(rng)
        self.lens = Lens(*size, horizontal_degrees=float(rng.uniform(58, 92)))
        self.mount = Mount(rng)
        self._textures = make_textures(rng)
        self._count, self._dt = round(seconds * rate), 1 / rate
        self.town = Town(self.district, seconds * self.district.cruise[1] + 120, rng)
        self._scenery = build_scenery(self.town, rng)
        self._car = make_camera_car(self.town, rng)
        self._moods = Moods(self._car, rng)
        self.actors = make_cast(self.town, self._car, rng)

    def __len__(self) -> int:
        return self._count

    def frames(self) -> Iterator[Moment]:
        renderer = StreetRasterizer(self.lens, self._textures, self.light)
        try:
            for piece in self._scenery.solid:
                renderer.add(piece)
            renderer.add_shadow(self._scenery.shadows)
            stage = [_Staged(renderer, actor, number) for number, actor in enumerate(self.actors, 1)]
            traffic = Traffic([self._car, *(a.who for a in self.actors if isinstance(a.who, Driver))],
                              [a.who for a in self.actors if not isinstance(a.who, Driver)])  # fmt: skip
            for index in range(self._count):
                if index:
                    self._moods.step(index * self._dt)
                    traffic.step(self._dt)
                camera = self.mount.pose(self._car, self._dt)
                objects: dict[int, Array] = {}
                for staged in stage:
                    objects.update(staged.move(renderer, camera))
                yield Moment(renderer.shoot(camera), camera, objects, self._car.speed)
        finally:
            renderer.close()


class Moods:
    """The driver of the camera car changes the wanted speed every few seconds, and sometimes stops."""

    def __init__(self, car: Driver, rng: np.random.Generator) -> None:
        self._car, self._cruise = car, car.cruise
        times = np.cumsum(rng.uniform(3, 9, 400))
        shares = rng.choice([1.0, 0.85, 0.6, 0.3, 0.0], 400, p=[0.42, 0.2, 0.14, 0.12, 0.12])
        self._plan = list(zip(times.tolist(), shares.tolist(), strict=True))

    def step(self, time: float) -> None:
        while self._plan[0][0] < time:
            self._car.cruise = self._cruise * self._plan.pop(0)[1]


class _Staged:
    """An actor with its meshes in a renderer."""

    def __init__(self, renderer: StreetRasterizer, actor: Actor, number: int) -> None:
        self._actor, self._number = actor, number
        self._handles = [renderer.add(mesh, number + PART * part) for part, mesh in enumerate(actor.parts)]
        shadow = Mesh()
        reach = (0.45, 0.4)
        if isinstance(actor.who, Driver):
            reach = (actor.who.length * 0.6, actor.who.width * 0.75)
        blob(shadow, (0, 0, 0.025), 0.0, *reach)
        self._shadow: Any = renderer.add_shadow(shadow)

    def move(self, renderer: StreetRasterizer, camera: Array) -> dict[int, Array]:
        """Move it to its present place, and return its poses by instance: nothing if it is gone or far."""
        poses = self._actor.poses()
        if poses is None or np.linalg.norm(poses[0][:3, 3] - camera[:3, 3]) > SIGHT:
            for handle in (*self._handles, self._shadow):
                renderer.move(handle, None)
            return {}
        for handle, pose in zip(self._handles, poses, strict=True):
            renderer.move(handle, pose)
        renderer.move(self._shadow, poses[0])
        return {self._number + PART * part: pose for part, pose in enumerate(poses)}
