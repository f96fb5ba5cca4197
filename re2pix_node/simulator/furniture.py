"""Objects on the sidewalk: lamps, signs, traffic lights, trees, bins, bollards, bicycles, and parked vehicles."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from re2pix_node.footage.cityscapes_classes import FENCE, IGNORE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN
from re2pix_node.simulator.ground import CURB
from re2pix_node.simulator.mesh import Array, Mesh, Paint, vector
from re2pix_node.simulator.plants import tree
from re2pix_node.simulator.streets import Street, Town
from re2pix_node.simulator.textures import LAYER, SIGNS
from re2pix_node.simulator.vehicles import Vehicle, bicycle, make_vehicle, motorcycle

Blob = Callable[..., None]


@dataclass(frozen=True)
class Stock:
    """The stock of objects of a town; `shade` (place, yaw, length, width) darkens the ground below objects."""

    metal: Paint
    garage: list[Vehicle]
    shade: Blob


def make_stock(shade: Blob, rng: np.random.Generator) -> Stock:
    grey = rng.uniform(0.2, 0.75)
    metal = Paint(POLE, LAYER["plain"], (float(grey), float(grey * rng.uniform(0.95, 1.08)), float(grey)))
    kinds = rng.choice(["car", "van", "truck"], 24, p=[0.84, 0.1, 0.06])
    return Stock(metal, [make_vehicle(str(kind), rng) for kind in kinds], shade)


def furnish_side(mesh: Mesh, town: Town, street: Street, left: bool, stock: Stock, rng: np.random.Generator) -> None:
    """Place objects along one side of a street."""
    metal = stock.metal
    district, line = town.district, street.line
    sign = 1 if left else -1
    curb = sign * (district.half + 0.35)
    row = float(rng.uniform(4, 9)) / max(district.trees, 0.1)
    s = float(rng.uniform(1, 6))
    while s < line.length - 1:
        place, heading = line.at(s, curb)
        inward = float(heading - sign * np.pi / 2)
        if rng.random() < min(district.trees * 0.5, 0.6):
            radius = tree(mesh, line.at(s, curb + sign * 0.2)[0], CURB, rng)
            stock.shade(line.at(s, curb)[0], 0.0, radius * 1.3, radius * 1.3, CURB + 0.03)
        else:
            _small_thing(mesh, place, heading, inward, metal, district.people < 0.3, rng)
        s += float(rng.uniform(2.5, 6)) + row * 0.2
    for spot in np.arange(rng.uniform(3, 12), line.length, rng.uniform(17, 28)).tolist():
        place, heading = line.at(spot, curb)
        lamp(mesh, place, heading - sign * np.pi / 2, metal, rng)
    if district.parking > 1:
        _park_vehicles(mesh, street, left, district.half - 1.05, stock, rng)
    if district.name == "motorway":
        _rail(mesh, street, sign * (district.half + 0.2))


def signals(mesh: Mesh, street: Street, half: float, metal: Paint, rng: np.random.Generator) -> None:
    """Traffic lights at both ends of a street, for the arriving traffic."""
    green = rng.random() < 0.6
    for end, side in ((True, -1), (False, 1)):
        s = street.line.length - 4.5 if end else 4.5
        place, heading = street.line.at(s, side * (half + 0.4))
        facing = heading + (np.pi if end else 0)
        foot = np.array([*place, CURB])
        mesh.tube(foot, foot + vector(0, 0, 3.4), (0.1, 0.09), metal)
        spots = [foot + vector(0, 0, 2.5)]
        if rng.random() < 0.5:
            inward = np.array([*(street.line.at(s, side * (half - 2.5))[0] - place), 0])
            mesh.tube(foot + vector(0, 0, 3.4), foot + inward + vector(0, 0, 5.4), (0.06, 0.05), metal)
            spots.append(foot + inward + vector(0, 0, 4.5))
        for spot in spots:
            _head(mesh, spot, facing, green)


def _head(mesh: Mesh, spot: Array, facing: float, green: bool) -> None:
    box = Paint(TRAFFIC_LIGHT, LAYER["plain"], (0.12, 0.12, 0.1))
    ahead = np.array([np.cos(facing), np.sin(facing)])
    mesh.block(spot[:2] + ahead * 0.1, (0.3, 0.48), (0.3, 0.48), (spot[2], spot[2] + 1.2), box, yaw=facing)
    colours = ((0.1, 1.5, 0.5), (0.25, 0.2, 0.05), (0.25, 0.05, 0.05)) if green else (
        (0.05, 0.2, 0.1), (0.25, 0.2, 0.05), (1.5, 0.2, 0.15))  # fmt: skip
    for row, colour in enumerate(colours):
        centre = np.array([*(spot[:2] + ahead * 0.265), spot[2] + 0.22 + 0.38 * row])
        lamp_paint = Paint(TRAFFIC_LIGHT, LAYER["plain"], colour)
        mesh.tube(centre, centre + np.array([*(ahead * 0.02), 0]), (0.12, 0.12), lamp_paint, 8, cap=True)


def lamp(mesh: Mesh, place: Array, inward: float, metal: Paint, rng: np.random.Generator) -> None:
    """A street lamp that leans over the road; some carry a sign."""
    foot, height = np.array([*place, CURB]), rng.uniform(4.5, 8)
    arm = np.array([np.cos(inward), np.sin(inward), 0.0])
    top = foot + vector(0, 0, height)
    mesh.tube(foot, top, (0.13, 0.09), metal, 7)
    if rng.random() < 0.7:
        mesh.tube(top, top + arm * 1.6 + vector(0, 0, 0.3), (0.05, 0.04), metal, 5)
        centre = (top + arm * 1.8)[:2]
        mesh.block(centre, (0.8, 0.25), (0.7, 0.2), (height + 0.35, height + 0.5), metal.shade(1.3), yaw=inward)
    else:
        mesh.ball(top + vector(0, 0, 0.2), (0.28, 0.28, 0.28), metal.shade(1.6), segments=6)
    if rng.random() < 0.35:
        _plate(mesh, foot + vector(0, 0, rng.uniform(2.2, 3.0)), inward + np.pi / 2, rng)


def _small_thing(
    mesh: Mesh, place: Array, heading: float, inward: float, metal: Paint, quiet: bool, rng: np.random.Generator
) -> None:
    if quiet and rng.random() < 0.8:
        return
    kind = rng.choice(["sign", "bollard", "bin", "bicycle", "motorcycle", "box", "post", "nothing"],
                      p=[0.24, 0.16, 0.07, 0.16, 0.07, 0.06, 0.12, 0.12])  # fmt: skip
    foot = np.array([*place, CURB])
    if kind == "sign":
        height = rng.uniform(2.0, 2.8)
        mesh.tube(foot, foot + vector(0, 0, height + 0.6), (0.06, 0.06), metal, 5)
        _plate(mesh, foot + vector(0, 0, height), heading if rng.random() < 0.5 else heading + np.pi, rng)
    elif kind == "bollard":
        for step in range(int(rng.integers(1, 5))):
            spot = foot + np.array([np.cos(heading), np.sin(heading), 0]) * 1.3 * step
            mesh.tube(spot, spot + vector(0, 0, 0.95), (0.08, 0.07), metal, 6, cap=True)
    elif kind in ("bin", "box"):
        size, height = ((0.5, 0.5), 0.95) if kind == "bin" else ((0.9, 0.45), 1.3)
        paint = Paint(IGNORE, LAYER["plain"], tuple(rng.uniform(0.15, 0.7, 3).tolist()))
        mesh.block(place, size, size, (CURB, CURB + height), paint, yaw=heading)
    elif kind == "post":
        mesh.tube(foot, foot + vector(0, 0, rng.uniform(6, 9)), (0.17, 0.13), metal.shade(0.8), 7)
    elif kind != "nothing":
        model = Mesh()
        (bicycle if kind == "bicycle" else motorcycle)(model, rng)
        for step in range(int(rng.integers(1, 4))):
            spot = foot + np.array([np.cos(heading), np.sin(heading), 0]) * 0.9 * step
            mesh.place(model, spot, inward + rng.uniform(-0.5, 0.5) + np.pi * rng.integers(2))


def _plate(mesh: Mesh, spot: Array, facing: float, rng: np.random.Generator) -> None:
    """A sign that faces one way, and its grey back."""
    size = rng.uniform(0.65, 1.1)
    paint = Paint(TRAFFIC_SIGN, LAYER[f"sign{rng.integers(SIGNS)}"], (1, 1, 1), (size, size))
    grey = Paint(TRAFFIC_SIGN, LAYER["plain"], (0.5, 0.5, 0.5))
    ahead = np.array([np.cos(facing), np.sin(facing), 0])
    across = np.array([-ahead[1], ahead[0], 0]) * size / 2
    low, up = spot + ahead * 0.07, np.array([0, 0, size])
    face = [low - across, low + across, low + across + up, low - across + up]
    if rng.random() < 0.35:
        face = [low - across, low + across, low + up, low + up]
    mesh.quad(face, paint)
    behind = [corner - ahead * 0.02 for corner in (face[1], face[0], face[3], face[2])]
    mesh.quad(behind, grey)


def _park_vehicles(mesh: Mesh, street: Street, left: bool, side: float, stock: Stock, rng: np.random.Generator) -> None:
    sign = 1 if left else -1
    s = float(rng.uniform(5, 9))
    while s < street.line.length - 9:
        model = stock.garage[rng.integers(len(stock.garage))]
        if rng.random() < 0.72:
            place, heading = street.line.at(s + model.length / 2, sign * side + rng.uniform(-0.1, 0.1))
            yaw = heading + (np.pi if left else 0) + rng.uniform(-0.03, 0.03)
            mesh.place(model.mesh, (*place, 0.0), yaw)
            stock.shade(place, yaw, model.length * 0.6, 1.35)
        s += model.length + float(rng.uniform(0.6, 2.0))


def _rail(mesh: Mesh, street: Street, side: float) -> None:
    """A guard rail."""
    line = street.line.spaced(4.0)
    paint = Paint(FENCE, LAYER["plain"], (0.65, 0.67, 0.7))
    for a, b in zip(line.beside(side)[:-1], line.beside(side)[1:], strict=True):
        mesh.tube([*a, 0.65], [*b, 0.65], (0.14, 0.14), paint, 4)
        mesh.tube([*a, 0], [*a, 0.75], (0.06, 0.06), paint, 4)
