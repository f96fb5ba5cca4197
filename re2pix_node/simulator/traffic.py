"""Moving actors: vehicles that keep their distance, cyclists, people who walk, stand and cross the street."""

from dataclasses import dataclass, field

import numpy as np

from re2pix_node.simulator.line import Line
from re2pix_node.simulator.mesh import Array

# m/s2: in curves, and when braking for limits ahead.
SIDEWAYS, BRAKE, HARD_BRAKE, ACCELERATE = 2.6, 2.5, 7.0, 2.4
# Farther from the camera than this, actors do not react to one another.
UNSEEN = 160.0
_LOOK_AHEAD = np.arange(2.0, 46.0, 1.5)


@dataclass
class Driver:
    """A driver or rider who follows a line, in a car or on two wheels."""

    line: Line
    s: float
    cruise: float
    length: float
    width: float
    speed: float = 0.0
    acceleration: float = 0.0
    limits: Array = field(init=False)

    def __post_init__(self) -> None:
        limits = np.sqrt(SIDEWAYS / np.maximum(self.line.curvature(), 1e-4))
        step = self.line.s[1]
        for i in range(len(limits) - 2, -1, -1):
            limits[i] = min(limits[i], np.sqrt(limits[i + 1] ** 2 + 2 * BRAKE * step))
        self.limits = limits

    @property
    def gone(self) -> bool:
        return self.s > self.line.length - 1

    def allowed(self) -> float:
        """The speed here: the limit of the road, or the driver's wish if that is lower."""
        return min(self.cruise, float(np.interp(self.s + 1, self.line.s, self.limits)))

    def place(self) -> tuple[Array, float]:
        return self.line.at(self.s)

    def ahead(self) -> Array:
        """Points on the way ahead."""
        s = self.s + _LOOK_AHEAD
        return np.stack([np.interp(s, self.line.s, self.line.points[:, i]) for i in (0, 1)], axis=1)

    def advance(self, gap: float, approach: float, dt: float) -> None:
        """Drive on: `gap` metres are free and shrink by `approach` m/s (the intelligent driver model)."""
        wanted = max(self.allowed(), 0.1)
        keep = 2.0 + max(0.0, self.speed * 0.9 + self.speed * approach / (2 * np.sqrt(ACCELERATE * BRAKE)))
        # The model would brake hard for a lower limit; people slow down gently.
        free = ACCELERATE * (1 - (self.speed / wanted) ** 4) if self.speed < wanted else 2 * (wanted - self.speed)
        push = max(free, -4.0) - ACCELERATE * (keep / max(gap, 0.5)) ** 2
        self.acceleration = float(np.clip(push, -HARD_BRAKE, ACCELERATE))
        before = self.speed
        self.speed = max(0.0, self.speed + self.acceleration * dt)
        self.s += (before + self.speed) / 2 * dt


@dataclass
class Walker:
    """A person on foot. A crosser starts when the camera car has `trigger` metres left to the crossing."""

    line: Line
    s: float
    speed: float
    stride: float
    trigger_at: float = -1.0
    trigger: float = 0.0
    walking: bool = True
    phase: float = 0.0

    def advance(self, dt: float, camera_s: float) -> None:
        if self.trigger_at >= 0 and self.trigger_at - camera_s < self.trigger:
            self.walking, self.trigger_at = True, -1.0
        if self.walking and self.s < self.line.length - 0.1:
            self.s += self.speed * dt
            self.phase += 2 * np.pi * self.speed / self.stride * dt

    @property
    def swing(self) -> float:
        """The angle of the left leg; the right leg has the opposite angle."""
        moving = self.walking and 0 < self.s < self.line.length - 0.1
        return 0.5 * float(np.sin(self.phase)) if moving else 0.05

    def velocity(self) -> Array:
        _, heading = self.line.at(self.s)
        moving = self.walking and self.s < self.line.length - 0.1
        return np.array([np.cos(heading), np.sin(heading)]) * (self.speed if moving else 0.0)


class Traffic:
    """All drivers and walkers; the first driver is the camera car."""

    def __init__(self, drivers: list[Driver], walkers: list[Walker]) -> None:
        self.drivers = drivers
        self.walkers = walkers

    def step(self, dt: float) -> None:
        camera = self.drivers[0]
        here = [driver for driver in self.drivers if not driver.gone]
        spots = [driver.place() for driver in here]
        places, headings = np.array([spot[0] for spot in spots]), np.array([spot[1] for spot in spots])
        people = np.array([walker.line.at(walker.s)[0] for walker in self.walkers]).reshape(-1, 2)
        steps = np.array([walker.velocity() for walker in self.walkers]).reshape(-1, 2)
        people = np.concatenate([people, people + steps, people + 2 * steps])
        speeds = np.array([driver.speed for driver in here])
        # Others give way to the camera car's future path.
        soon = [camera.line.at(camera.s + camera.speed * t)[0] for t in (0.7, 1.4, 2.1)]
        far = np.linalg.norm(places - places[0], axis=1) > UNSEEN
        for i, driver in enumerate(here):
            if far[i]:
                driver.advance(200.0, 0.0, dt)
                continue
            apart = np.cos(headings - headings[i])
            minded = (apart > 0.5) | (np.arange(len(here)) < i) | (driver is camera)
            minded[i] = False
            gap, approach = self._nearest(driver, places[minded], speeds[minded] * apart[minded], people)
            if driver is not camera and np.min(apart[0]) < 0.5:
                gap = min(gap, _free(driver, np.array(soon), 2.2)[0])
            driver.advance(gap, approach, dt)
        for walker in self.walkers:
            walker.advance(dt, camera.s)

    def _nearest(self, driver: Driver, cars: Array, speeds: Array, people: Array) -> tuple[float, float]:
        gap, which = _free(driver, cars, 0.42 + driver.width / 2)
        # The middle of the other car is half its length behind its rear bumper.
        gap -= 2.3 + driver.length / 2
        approach = driver.speed - float(speeds[which]) if which >= 0 else 0.0
        if len(people):
            near = _free(driver, people, 0.4 + driver.width / 2)[0] - driver.length / 2 - 1.0
            if near < gap:
                gap, approach = near, driver.speed
        return gap, approach


def _free(driver: Driver, points: Array, reach: float) -> tuple[float, int]:
    """How far the way ahead is free of points, and the point that ends it."""
    if not len(points):
        return 200.0, -1
    distance = np.linalg.norm(driver.ahead()[:, None] - points[None], axis=-1)
    hit = distance < reach
    blocked = hit.any(axis=1)
    if not blocked.any():
        return 200.0, -1
    first = int(np.argmax(blocked))
    return float(_LOOK_AHEAD[first]), int(np.argmin(np.where(hit[first], distance[first], np.inf)))
