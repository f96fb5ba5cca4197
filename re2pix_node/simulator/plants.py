"""Trees, bushes and hedges: clouds of leafy cards around a core."""

import numpy as np

from re2pix_node.footage.cityscapes_classes import VEGETATION
from re2pix_node.simulator.mesh import Array, Mesh, Paint
from re2pix_node.simulator.textures import LAYER, LEAVES


def leaf_paint(rng: np.random.Generator) -> Paint:
    season = rng.uniform(0.75, 1.3)
    tint = (season * float(rng.uniform(0.8, 1.5)), season, season * float(rng.uniform(0.6, 1.1)))
    return Paint(VEGETATION, LAYER[f"leaves{rng.integers(LEAVES)}"], tint)


def crown(mesh: Mesh, centre: Array, radii: Array, paint: Paint, rng: np.random.Generator, cards: int) -> None:
    """Leaves all over an ellipsoid, darker below."""
    core = Paint(VEGETATION, LAYER["hedge"], paint.tint, (2.0, 2.0)).shade(0.45)
    mesh.ball(centre, radii * 0.72, core, rng.uniform(-0.15, 0.15, 40), segments=6)
    out = rng.normal(size=(cards, 3))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    centres = centre + out * radii * rng.uniform(0.55, 0.95, (cards, 1))
    helper = rng.normal(size=(cards, 3))
    a = np.cross(out + 0.5 * helper, helper)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = np.cross(a, out + 0.3 * rng.normal(size=(cards, 3)))
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    size = float(np.mean(radii)) * rng.uniform(0.4, 0.65, (cards, 1))
    mesh.cards(centres, np.stack([a * size, b * size], axis=1), out, paint)


def tree(mesh: Mesh, place: Array, ground: float, rng: np.random.Generator) -> float:
    """Add a tree of any size; return the radius of its crown."""
    height, spread = rng.uniform(3.5, 10), rng.uniform(1.1, 3.0)
    stem = height * rng.uniform(0.25, 0.5)
    bark = Paint(VEGETATION, LAYER["bark"], (0.75, 0.7, 0.65), (1.0, 1.5))
    foot = np.array([place[0], place[1], ground])
    lean = rng.normal(0, 0.15, 2)
    fork = foot + np.array([lean[0], lean[1], stem + 0.8])
    thick = 0.05 + 0.018 * height
    mesh.tube(foot, fork, (thick * 1.25, thick), bark, 6)
    leaves = leaf_paint(rng)
    top = (height - stem) / 2
    if rng.random() < 0.2:
        # A conifer: skirts that get smaller.
        for share in np.linspace(0.1, 1, 4):
            middle = foot + np.array([0, 0, stem * 0.5 + share * (height - stem * 0.5) - 0.8])
            width = spread * 0.7 * (1.15 - share)
            crown(mesh, middle, np.array([width, width, height * 0.16]), leaves.shade(0.75), rng, 10)
    else:
        crown(mesh, fork + np.array([0, 0, top * 0.8]), np.array([spread, spread, top]), leaves, rng, 30)
    return float(spread)


def bush(mesh: Mesh, place: Array, ground: float, rng: np.random.Generator) -> None:
    size = rng.uniform(0.4, 1.1)
    radii = np.array([size * rng.uniform(0.8, 1.5), size, size * rng.uniform(0.7, 1.2)])
    crown(mesh, np.array([place[0], place[1], ground + radii[2] * 0.6]), radii, leaf_paint(rng), rng, 12)


def hedge(mesh: Mesh, centre: Array, length: float, yaw: float, height: float, ground: float, tint: Paint) -> None:
    paint = Paint(VEGETATION, LAYER["hedge"], tint.tint, (2.5, 2.5))
    sizes = ((length, 0.7), (length, 0.55), (ground, ground + height))
    mesh.block(centre, *sizes, paint.shade(0.7), paint.shade(1.1), yaw)
