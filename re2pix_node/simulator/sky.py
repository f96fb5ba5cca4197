"""The light of a drive: sun, sky and haze."""

from dataclasses import dataclass

import numpy as np

from re2pix_node.simulator.mesh import Array
from re2pix_node.simulator.textures import noise


@dataclass(frozen=True)
class Light:
    """Colours are RGB of 0..1 and above; `panorama` is the sky from the zenith (first row) to the horizon."""

    name: str
    sun_direction: Array
    sun: Array
    sky: Array
    ground: Array
    haze: Array
    haze_density: float
    shadow: float
    panorama: Array


# name, share, sun strength, sky strength, zenith, horizon, sun colour, clouds (share, brightness), sun height (degrees)
_SKIES = [
    ("clear", 0.25, 0.85, 0.5, (0.25, 0.45, 0.85), (0.72, 0.84, 0.95), (1.0, 0.96, 0.88), (0.15, 1.0), (30, 70)),
    ("clouds", 0.3, 0.7, 0.55, (0.3, 0.5, 0.82), (0.75, 0.83, 0.9), (1.0, 0.97, 0.92), (0.5, 0.95), (25, 65)),
    ("overcast", 0.2, 0.15, 0.85, (0.62, 0.65, 0.68), (0.82, 0.83, 0.84), (1.0, 1.0, 1.0), (0.8, 0.75), (30, 70)),
    ("evening", 0.15, 0.85, 0.38, (0.25, 0.35, 0.65), (0.98, 0.75, 0.5), (1.0, 0.72, 0.42), (0.4, 0.9), (7, 20)),
    ("dusk", 0.1, 0.15, 0.62, (0.16, 0.21, 0.4), (0.58, 0.5, 0.52), (0.8, 0.7, 0.8), (0.4, 0.4), (10, 30)),
]


def make_light(rng: np.random.Generator) -> Light:
    chosen = _SKIES[rng.choice(len(_SKIES), p=[row[1] for row in _SKIES])]
    name, _, sun, sky, zenith, horizon, colour, (cover, bright), heights = chosen
    height, azimuth = np.radians(rng.uniform(*heights)), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    exposure = rng.uniform(0.85, 1.15)
    zenith_colour = np.array(zenith) * rng.uniform(0.9, 1.1, 3)
    horizon_colour = np.array(horizon) * rng.uniform(0.95, 1.05, 3)
    ambient = sky * exposure * (0.5 + 0.5 * (zenith_colour + horizon_colour) / (zenith_colour + horizon_colour).mean())
    return Light(
        name=name,
        sun_direction=direction,
        sun=np.array(colour) * sun * exposure,
        sky=ambient,
        ground=ambient * np.array([0.62, 0.58, 0.52]),
        haze=horizon_colour,
        haze_density=float(10 ** rng.uniform(-3.2, -2.3)),
        shadow=float(np.clip(sun, 0.2, 0.75)),
        panorama=_panorama(rng, zenith_colour, horizon_colour, cover, bright, azimuth, height, np.array(colour) * sun),
    )


def _panorama(
    rng: np.random.Generator,
    zenith: Array,
    horizon: Array,
    cover: float,
    bright: float,
    azimuth: float,
    height: float,
    sun: Array,
) -> Array:
    rows, columns = 256, 1024
    elevation = np.linspace(np.pi / 2, 0, rows)[:, None]
    around = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    share = np.exp(-3.0 * np.sin(elevation))[..., None]
    picture = zenith + (horizon - zenith) * share * np.ones((1, columns, 1))
    clouds = noise(rng, 2, (rows, columns)) * 0.7 + noise(rng, 4, (rows, columns)) * 0.3
    amount = np.clip((clouds - (1 - cover)) * 5 / max(cover, 0.2), 0, 1)[..., None]
    shade = bright * (0.8 + 0.4 * (noise(rng, 3, (rows, columns))[..., None] - 0.5))
    picture = picture + amount * 0.9 * (shade * (0.6 + 0.4 * horizon) - picture)
    apart = np.cos(elevation) * np.cos(height) * np.cos(around - azimuth) + np.sin(elevation) * np.sin(height)
    glow = 0.5 * np.exp((apart - 1) * 40) + 1.2 * np.exp((apart - 1) * 1500)
    picture = picture + glow[..., None] * sun * (1 - 0.7 * amount)
    panorama: Array = (picture.clip(0, 1) * 255).astype(np.uint8)
    return panorama
