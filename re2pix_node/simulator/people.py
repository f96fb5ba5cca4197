"""People on foot and on two wheels. A walker is a body and two legs that swing: three meshes, three poses."""

import numpy as np

from re2pix_node.footage.cityscapes_classes import PERSON, RIDER
from re2pix_node.simulator.mesh import Array, Mesh, Paint, vector
from re2pix_node.simulator.textures import LAYER
from re2pix_node.simulator.vehicles import bicycle, motorcycle

_SKINS = [(0.95, 0.75, 0.62), (0.8, 0.58, 0.42), (0.5, 0.34, 0.24), (0.3, 0.2, 0.15)]
HIP = 0.92


def make_walker(rng: np.random.Generator, standing: bool = False) -> list[Mesh]:
    """Body, left leg and right leg; the legs hang from the hip, their own origin. Standing people are one mesh."""
    tall = float(rng.uniform(0.86, 1.1))
    coat, trousers, skin = _clothes(PERSON, rng)
    body = Mesh()
    _trunk(body, np.zeros(3), 0.0, coat, skin, tall, rng)
    if rng.random() < 0.3:
        body.block((-0.2, 0), (0.2, 0.3), (0.16, 0.28), (1.0 * tall, 1.4 * tall), coat.shade(0.5))
    elif rng.random() < 0.3:
        body.block((0.02, 0.34), (0.3, 0.12), (0.28, 0.1), (0.45, 0.75), trousers.shade(1.5))
    legs = []
    for side in (0.1, -0.1):
        leg = Mesh()
        leg.tube([0, 0, 0], [0, 0, -0.86 * tall], (0.1, 0.065), trousers, 6)
        leg.block((0.06, 0), (0.28, 0.11), (0.2, 0.1), (-HIP * tall, -0.84 * tall), trousers.shade(0.3))
        if standing:
            body.place(leg, (0, side, HIP * tall))
        else:
            shifted = Mesh()
            shifted.place(leg, (0, side, 0))
            legs.append(shifted)
    return [body, *legs]


def hip_height(legs: Mesh) -> float:
    """The height of the hip above the feet."""
    return float(-legs.arrays()[0][:, 2].min())


def leg_pose(body: Array, swing: float, hip: float) -> Array:
    """The pose of a leg that swings by an angle about the hip."""
    c, s = np.cos(swing), np.sin(swing)
    local = np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, hip], [0, 0, 0, 1.0]])
    pose: Array = body @ local
    return pose


def make_rider(kind: str, rng: np.random.Generator) -> Mesh:
    """A person on a `bicycle` or a `motorcycle`: one rigid object."""
    mesh = Mesh()
    (bicycle if kind == "bicycle" else motorcycle)(mesh, rng)
    coat, trousers, skin = _clothes(RIDER, rng)
    seat = np.array([-0.25, 0, 0.98 if kind == "bicycle" else 0.85])
    _trunk(mesh, seat - vector(0, 0, HIP), 0.3, coat, skin, 1.0, rng, hands=np.array([0.4, 0.25, 1.05]))
    for side, down in ((0.13, 0.15), (-0.13, 0.45)):
        knee = np.array([0.15, side, seat[2] - 0.15 - down * 0.3])
        mesh.tube(seat + vector(0, side, 0), knee, (0.1, 0.075), trousers, 6)
        mesh.tube(knee, [-0.05, side, knee[2] - 0.45], (0.075, 0.055), trousers, 6)
    if kind == "motorcycle" or rng.random() < 0.5:
        helmet = Paint(RIDER, LAYER["plain"], tuple(rng.uniform(0.05, 1, 3).tolist()))
        mesh.ball(seat + vector(0.2, 0, 0.75), (0.16, 0.14, 0.14), helmet, segments=6)
    return mesh


def _clothes(label: int, rng: np.random.Generator) -> tuple[Paint, Paint, Paint]:
    coat = rng.uniform(0.05, 0.95, 3) if rng.random() < 0.6 else np.ones(3) * rng.uniform(0.05, 0.6)
    trousers = np.array([0.5, 0.55, 0.75]) * rng.uniform(0.1, 0.8)
    skin = np.array(_SKINS[rng.integers(len(_SKINS))])
    paints = [
        Paint(label, LAYER[layer], (float(c[0]), float(c[1]), float(c[2])), (1.0, 1.0))
        for layer, c in (("cloth", coat), ("cloth", trousers), ("plain", skin))
    ]
    return paints[0], paints[1], paints[2]


def _trunk(
    mesh: Mesh,
    hip: Array,
    lean: float,
    coat: Paint,
    skin: Paint,
    tall: float,
    rng: np.random.Generator,
    hands: Array | None = None,
) -> None:
    """Torso, arms and head over a hip (given by where the feet of a standing person would be)."""
    low = hip + vector(0, 0, (HIP - 0.1) * tall)
    high = hip + vector(lean, 0, 1.48 * tall)
    wide = rng.uniform(0.17, 0.23)
    mesh.tube(low, high, (wide * 0.95, wide), coat, 7)
    mesh.tube(high, high + vector(0, 0, 0.08), (wide, 0.07), coat, 7)
    head = high + vector(0.03, 0, 0.2 * tall)
    mesh.ball(head, (0.105, 0.09, 0.135), skin, segments=6)
    hair = Paint(coat.label, LAYER["cloth"], tuple((np.array([0.35, 0.25, 0.18]) * rng.uniform(0.15, 1.8)).tolist()))
    mesh.ball(head + vector(-0.025, 0, 0.035), (0.105, 0.1, 0.125), hair, segments=6)
    for side in (-1, 1):
        shoulder = high + vector(0, side * (wide + 0.02), -0.05)
        swing = rng.uniform(-0.25, 0.25)
        hand = hip + vector(swing, side * (wide + 0.08), 0.82 * tall) if hands is None else hands * [1, side, 1]
        mesh.tube(shoulder, hand, (0.065, 0.045), coat, 5)
        mesh.ball(hand, (0.05, 0.05, 0.06), skin, segments=4)
