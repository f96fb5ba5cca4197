"""Cars, vans, trucks, buses, motorcycles and bicycles: x forward, on the ground, their middle at the origin."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from re2pix_node.footage.cityscapes_classes import BICYCLE, BUS, CAR, MOTORCYCLE, TRUCK
from re2pix_node.simulator.mesh import Mesh, Paint
from re2pix_node.simulator.textures import LAYER


@dataclass(frozen=True)
class Vehicle:
    mesh: Mesh
    length: float
    width: float


_PAINTS = [
    (0.9, 0.9, 0.9), (0.12, 0.12, 0.13), (0.5, 0.52, 0.55), (0.28, 0.3, 0.33), (0.6, 0.08, 0.08), (0.1, 0.2, 0.5),
    (0.75, 0.75, 0.78), (0.2, 0.35, 0.25), (0.8, 0.6, 0.15), (0.55, 0.45, 0.35), (0.15, 0.45, 0.6),
]  # fmt: skip


def make_vehicle(kind: str, rng: np.random.Generator) -> Vehicle:
    """A `car`, `van`, `truck` or `bus` of some size and colour."""
    red, green, blue = np.array(_PAINTS[rng.integers(len(_PAINTS))]) * rng.uniform(0.85, 1.15)
    makers = {"car": _car, "van": _van, "truck": _truck, "bus": _bus}
    return makers[kind]((float(red), float(green), float(blue)), rng)


def _car(colour: tuple[float, float, float], rng: np.random.Generator) -> Vehicle:
    mesh = Mesh()
    body = Paint(CAR, LAYER["plain"], colour)
    glass = Paint(CAR, LAYER["plain"], (0.1, 0.12, 0.15))
    length, width = rng.uniform(3.6, 4.9), rng.uniform(1.65, 1.88)
    height, belt = rng.uniform(1.4, 1.75), rng.uniform(0.85, 0.98)
    kind = rng.choice(["hatch", "sedan", "estate"])
    cabin = {"hatch": 0.6, "sedan": 0.52, "estate": 0.68}[str(kind)] * length
    back = {"hatch": -0.16, "sedan": -0.05, "estate": -0.14}[str(kind)] * length
    mesh.block((0, 0), (length * 0.97, width), (length, width), (0.22, 0.55), body.shade(0.8))
    mesh.block((0, 0), (length, width), (length * 0.95, width * 0.95), (0.55, belt), body)
    roof = (cabin * rng.uniform(0.6, 0.75), width * 0.74)
    mesh.block((back, 0), (cabin, width * 0.92), roof, (belt, height - 0.06), glass, body, lean=-0.03 * length)
    top = (roof[0] * 1.02, roof[1] * 1.02)
    mesh.block((back - 0.03 * length, 0), top, (roof[0] * 0.9, roof[1] * 0.9), (height - 0.06, height), body)
    for side in (-1, 1):
        # Pillars, as lines over the glass.
        foot = np.array([back, side * width * 0.462, belt])
        mesh.tube(foot, [back - 0.03 * length, side * width * 0.375, height - 0.06], (0.05, 0.05), body, 4)
    _wheels(mesh, CAR, length * 0.31, width, 0.32)
    _lights(mesh, CAR, length * 0.985, width, 0.6)
    return Vehicle(mesh, float(length), float(width))


def _van(colour: tuple[float, float, float], rng: np.random.Generator) -> Vehicle:
    mesh = Mesh()
    body, glass = Paint(CAR, LAYER["plain"], colour), Paint(CAR, LAYER["plain"], (0.1, 0.12, 0.15))
    length, width, height = rng.uniform(4.8, 5.8), 1.95, rng.uniform(1.9, 2.4)
    mesh.block((0, 0), (length, width), (length, width), (0.25, 1.05), body)
    mesh.block(
        (-0.07 * length, 0), (length * 0.86, width), (length * 0.7, width * 0.9), (1.05, height), body, lean=-0.25
    )
    mesh.block((0.18 * length, 0), (length * 0.4, width + 0.02), (length * 0.24, width * 0.93), (1.08, height - 0.25),
               glass, lean=-0.22)  # fmt: skip
    _wheels(mesh, CAR, length * 0.32, width, 0.35)
    _lights(mesh, CAR, length, width, 0.65)
    return Vehicle(mesh, float(length), width)


def _truck(colour: tuple[float, float, float], rng: np.random.Generator) -> Vehicle:
    mesh = Mesh()
    length, width, height = rng.uniform(6.5, 10.5), 2.4, rng.uniform(2.9, 3.7)
    cab, glass = Paint(TRUCK, LAYER["plain"], colour), Paint(TRUCK, LAYER["plain"], (0.08, 0.1, 0.13))
    red, green, blue = rng.uniform(0.4, 1.1, 3)
    cargo = Paint(TRUCK, LAYER["cargo"], (float(red), float(green), float(blue)), (length * 0.7, height - 1))
    front = length / 2 - 1.0
    mesh.block((front, 0), (2.0, width), (1.8, width * 0.96), (0.45, 2.6), cab, lean=-0.1)
    mesh.block((front + 0.03, 0), (2.02, width * 0.9), (1.88, width * 0.85), (1.5, 2.35), glass, lean=-0.06)
    mesh.block((-1.15, 0), (length - 2.3, width), (length - 2.3, width), (1.0, height), cargo)
    mesh.block((-1.0, 0), (length - 2, width * 0.8), (length - 2, width * 0.8), (0.5, 1.0), glass.shade(1.5))
    _wheels(mesh, TRUCK, length * 0.36, width, 0.48)
    _lights(mesh, TRUCK, length, width, 0.8)
    return Vehicle(mesh, float(length), width)


def _bus(colour: tuple[float, float, float], rng: np.random.Generator) -> Vehicle:
    mesh = Mesh()
    length, width, height = rng.uniform(8.5, 11.5), 2.5, 3.0
    red, green, blue = np.array(colour) * 0.6 + 0.4
    side = Paint(BUS, LAYER["coach"], (float(red), float(green), float(blue)), (4.8, height - 0.3))
    mesh.block(
        (0, 0), (length, width), (length * 0.99, width * 0.97), (0.3, height), side, Paint(BUS, 0, (0.8, 0.8, 0.8))
    )
    glass = Paint(BUS, LAYER["plain"], (0.1, 0.12, 0.15))
    mesh.block((0, 0), (length + 0.03, width * 0.92), (length + 0.01, width * 0.9), (1.2, 2.6), glass)
    _wheels(mesh, BUS, length * 0.33, width, 0.48)
    _lights(mesh, BUS, length + 0.01, width, 0.7)
    return Vehicle(mesh, float(length), width)


def _wheels(mesh: Mesh, label: int, axle: float, width: float, radius: float) -> None:
    tyre, rim = Paint(label, LAYER["plain"], (0.08, 0.08, 0.08)), Paint(label, LAYER["plain"], (0.5, 0.5, 0.52))
    for x in (-axle, axle):
        for side in (-1, 1):
            outer = side * (width / 2 + 0.01)
            mesh.tube([x, outer - side * 0.2, radius], [x, outer, radius], (radius, radius), tyre, 10, cap=True)
            mesh.tube(
                [x, outer - side * 0.1, radius], [x, outer + side * 0.01, radius], (radius * 0.6,) * 2, rim, 8, cap=True
            )


def _lights(mesh: Mesh, label: int, length: float, width: float, height: float) -> None:
    front, rear = Paint(label, 0, (1.3, 1.3, 1.15)), Paint(label, 0, (1.0, 0.08, 0.06))
    plate = Paint(label, 0, (1.0, 0.95, 0.75))
    for side in (-1, 1):
        for end, paint in ((1, front), (-1, rear)):
            size = (0.06, 0.36)
            mesh.block((end * length / 2, side * (width / 2 - 0.25)), size, size, (height, height + 0.16), paint)
    for end in (1, -1):
        mesh.block((end * length / 2, 0), (0.06, 0.5), (0.06, 0.5), (height - 0.12, height), plate)


def bicycle(mesh: Mesh, rng: np.random.Generator) -> None:
    red, green, blue = rng.uniform(0.05, 0.8, 3)
    paint = Paint(BICYCLE, LAYER["plain"], (float(red), float(green), float(blue)))
    black = Paint(BICYCLE, LAYER["plain"], (0.07, 0.07, 0.07))
    for x in (-0.52, 0.52):
        _hoop(mesh, x, 0.34, 0.03, black)
    crank, seat, head = [-0.1, 0, 0.32], [-0.25, 0, 0.92], [0.38, 0, 0.9]
    for a, b in ((crank, seat), (crank, head), (seat, head), (crank, [-0.52, 0, 0.34]), (head, [0.52, 0, 0.34])):
        mesh.tube(a, b, (0.028, 0.028), paint, 4)
    mesh.tube([0.38, -0.28, 1.02], [0.38, 0.28, 1.02], (0.025, 0.025), black, 4)
    mesh.block((-0.27, 0), (0.26, 0.14), (0.26, 0.1), (0.92, 0.99), black)


def motorcycle(mesh: Mesh, rng: np.random.Generator) -> None:
    red, green, blue = rng.uniform(0.05, 0.9, 3)
    paint = Paint(MOTORCYCLE, LAYER["plain"], (float(red), float(green), float(blue)))
    black = Paint(MOTORCYCLE, LAYER["plain"], (0.07, 0.07, 0.07))
    for x in (-0.68, 0.68):
        _hoop(mesh, x, 0.32, 0.08, black)
    mesh.block((0.02, 0), (0.8, 0.32), (0.6, 0.28), (0.3, 0.7), black.shade(2.5))
    mesh.block((0.2, 0), (0.6, 0.34), (0.45, 0.24), (0.7, 0.98), paint)
    mesh.block((-0.4, 0), (0.8, 0.28), (0.7, 0.24), (0.68, 0.82), black)
    mesh.block((0.62, 0), (0.3, 0.36), (0.1, 0.26), (0.7, 1.15), paint)
    mesh.tube([0.5, -0.36, 1.05], [0.5, 0.36, 1.05], (0.03, 0.03), black, 4)
    mesh.tube([0.68, 0, 0.32], [0.5, 0, 1.05], (0.05, 0.05), black, 4)


def _hoop(mesh: Mesh, x: float, radius: float, thick: float, paint: Paint) -> None:
    angles = np.linspace(0, 2 * np.pi, 13)
    points = np.stack([x + radius * np.cos(angles), 0 * angles, radius + radius * np.sin(angles)], axis=1)
    for a, b in pairwise(points):
        mesh.tube(a, b, (thick, thick), paint, 4)
