"""Makes textures from noise: one array of small pictures that all surfaces of a drive share."""

import cv2
import numpy as np

from re2pix_node.simulator.mesh import Array

SIZE = 256
# Facades and shop fronts repeat after this many bays, so that neighbours do not look alike.
BAYS = 4
FACADES = 6
SHOPS = 3
LEAVES = 3
SIGNS = 5

LAYERS = [
    "plain", "asphalt", "patched", "cobbles", "slabs", "setts", "plaster", "brick", "concrete", "graffiti",
    "roof_tiles", "grass", "bark", "hedge", "wood", "cloth", "coach", "cargo",
    *(f"facade{i}" for i in range(FACADES)), *(f"shop{i}" for i in range(SHOPS)),
    *(f"leaves{i}" for i in range(LEAVES)), *(f"sign{i}" for i in range(SIGNS)),
]  # fmt: skip
LAYER = {name: index for index, name in enumerate(LAYERS)}


def make_textures(rng: np.random.Generator) -> Array:
    """RGBA pictures (layers x SIZE x SIZE x 4, uint8), all tileable; alpha 0 is a hole."""
    makers = {
        "plain": lambda r: _grey(1.0 + 0.05 * (noise(r, 3) - 0.5)),
        "asphalt": _asphalt,
        "patched": _patched,
        "cobbles": lambda r: _stones(r, 16, 16, 0.35),
        "slabs": lambda r: _stones(r, 4, 6, 0.16),
        "setts": lambda r: _stones(r, 8, 16, 0.25),
        "plaster": lambda r: _grey(0.85 + 0.25 * (noise(r, 2) - 0.5) + 0.1 * (noise(r, 6) - 0.5)),
        "brick": lambda r: _stones(r, 8, 24, 0.4),
        "concrete": _concrete,
        "graffiti": _graffiti,
        "roof_tiles": _roof,
        "grass": lambda r: _mix(noise(r, 5), (0.25, 0.36, 0.12), (0.55, 0.62, 0.28)),
        "bark": lambda r: _mix(cv2.blur(noise(r, 6), (3, 41)), (0.2, 0.16, 0.12), (0.65, 0.55, 0.45)),
        "hedge": lambda r: _mix(noise(r, 6), (0.05, 0.12, 0.03), (0.45, 0.65, 0.25)),
        "wood": lambda r: _mix(cv2.blur(noise(r, 6), (61, 3)), (0.4, 0.28, 0.16), (0.8, 0.62, 0.42)),
        "cloth": lambda r: _grey(0.8 + 0.7 * (noise(r, 2) - 0.5)),
        "coach": _coach,
        "cargo": _cargo,
    }
    pictures = []
    for name in LAYERS:
        kind = name.rstrip("0123456789")
        several = {"facade": _facade, "shop": _shop, "leaves": _leaves, "sign": _sign}
        pictures.append(several[kind](rng) if kind in several else makers[name](rng))
    rgba = np.ones((len(pictures), SIZE, SIZE, 4))
    for layer, picture in zip(rgba, pictures, strict=True):
        layer[..., : picture.shape[-1]] = picture
    return (rgba.clip(0, 1) * 255).astype(np.uint8)


def noise(rng: np.random.Generator, coarse: int, shape: tuple[int, int] = (SIZE, SIZE)) -> Array:
    """Tileable noise of 0..1, from 2**coarse grains across up to single pixels."""
    total = np.zeros(shape)
    weight = 0.0
    for octave in range(coarse, int(np.log2(shape[0])) + 1):
        n = 2**octave
        grains = (n, n * shape[1] // shape[0])
        grid = np.pad(rng.random(grains), 1, mode="wrap")
        step = shape[0] // n
        fine = cv2.resize(grid, ((grains[1] + 2) * step, (grains[0] + 2) * step), interpolation=cv2.INTER_CUBIC)
        share = 0.7 ** (octave - coarse)
        total += share * fine[step : step + shape[0], step : step + shape[1]]
        weight += share
    total /= weight
    spread = max(float(total.std()), 1e-6)
    even: Array = ((total - total.mean()) / (5 * spread) + 0.5).clip(0, 1)
    return even


def _grey(value: Array) -> Array:
    return np.repeat(value[..., None], 3, axis=2)


def _mix(amount: Array, low: tuple[float, ...], high: tuple[float, ...]) -> Array:
    mixed: Array = np.asarray(low) + amount[..., None] * (np.asarray(high) - np.asarray(low))
    return mixed


def _asphalt(rng: np.random.Generator) -> Array:
    return _grey(0.62 + 0.25 * (noise(rng, 2) - 0.5) + 0.3 * (noise(rng, 7) - 0.5))


def _patched(rng: np.random.Generator) -> Array:
    grey = _asphalt(rng)[..., 0].copy()
    for _ in range(rng.integers(2, 6)):
        y, x = rng.integers(0, SIZE - 60, 2)
        h, w = rng.integers(15, 60, 2)
        grey[y : y + h, x : x + w] *= rng.uniform(0.6, 1.2)
    for _ in range(rng.integers(1, 5)):
        crack = np.cumsum(rng.normal(0, 4, (12, 2)) + rng.normal(0, 8, 2), axis=0) + rng.integers(0, SIZE, 2)
        cv2.polylines(grey, [crack.astype(np.int32)], False, (0.25,), int(rng.integers(1, 3)))
    return _grey(grey)


def _stones(rng: np.random.Generator, columns: int, rows: int, contrast: float) -> Array:
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    row = np.floor(y * rows).astype(int)
    shifted = x * columns + 0.5 * (row % 2)
    column = np.floor(shifted).astype(int) % columns
    value = (1 - contrast / 2 + contrast * rng.random((rows, columns)))[row, column]
    joint = np.minimum((shifted % 1) / columns, (y * rows % 1) / rows) * SIZE < 1.6
    value = np.where(joint, value * (1 - 1.3 * contrast), value) + 0.15 * (noise(rng, 5) - 0.5)
    return _grey(value * 0.9)


def _concrete(rng: np.random.Generator) -> Array:
    value = 0.75 + 0.3 * (noise(rng, 2) - 0.5) + 0.15 * (noise(rng, 6) - 0.5)
    value[:, :: SIZE // 2] *= 0.6
    value[:3] *= 0.7
    return _grey(value)


def _graffiti(rng: np.random.Generator) -> Array:
    picture = _concrete(rng)
    for _ in range(12):
        line = (np.cumsum(rng.normal(0, 14, (8, 2)), axis=0) + rng.integers(0, SIZE, 2)).astype(np.int32)
        colour = tuple(float(c) for c in rng.random(3))
        cv2.polylines(picture, [line], bool(rng.random() < 0.5), colour, int(rng.integers(2, 9)))
    return picture


def _roof(rng: np.random.Generator) -> Array:
    y = np.arange(SIZE)[:, None] % 12 / 12
    return _grey((0.55 + 0.4 * y) * (0.85 + 0.4 * (noise(rng, 5) - 0.5)))


def _wall(rng: np.random.Generator) -> Array:
    base = _stones(rng, 12, 36, 0.25)[..., 0] if rng.random() < 0.4 else 0.85 + 0.25 * (noise(rng, 3) - 0.5)
    return _grey(base)


def _facade(rng: np.random.Generator) -> Array:
    picture = _wall(rng)
    cell = SIZE // BAYS
    width, height = int(cell * rng.uniform(0.35, 0.8)), int(cell * rng.uniform(0.4, 0.72))
    frame = rng.uniform(0.3, 1.0, 3) * rng.uniform(0.6, 1)
    band = rng.random() < 0.5
    bars = rng.integers(0, 3)
    for row in range(BAYS):
        if band:
            picture[row * cell : row * cell + 3] *= 0.65
        for column in range(BAYS):
            x, y = column * cell + (cell - width) // 2, row * cell + int(cell * 0.16)
            picture[y - 2 : y + height + 2, x - 2 : x + width + 2] = frame
            picture[y : y + height, x : x + width] = _glass(rng, height, width)
            for bar in range(bars):
                picture[y : y + height, x + (bar + 1) * width // (bars + 1)] = frame
            picture[y + height + 2 : y + height + 5, x - 4 : x + width + 4] *= 0.55
    return picture


def _glass(rng: np.random.Generator, height: int, width: int) -> Array:
    """A window pane: the sky above reflected, perhaps a curtain or a lamp behind it."""
    reflection = np.linspace(rng.uniform(0.3, 0.75), rng.uniform(0.05, 0.25), height)[:, None, None]
    pane: Array = np.tile(reflection * np.array([0.75, 0.9, 1.05]), (1, width, 1))
    if rng.random() < 0.35:
        pane[: int(height * rng.uniform(0.2, 1))] = rng.uniform(0.4, 0.9, 3)
    elif rng.random() < 0.1:
        pane[:] = (1.0, 0.85, 0.5)
    return pane


def _shop(rng: np.random.Generator) -> Array:
    """A ground floor: panes, doors, a fascia with lettering, an awning over some of them."""
    picture = _wall(rng) * 0.8
    cell = SIZE // BAYS
    for column in range(BAYS):
        x = column * cell
        colour = rng.random(3) * 0.8 + 0.1
        picture[24:66, x + 1 : x + cell - 1] = colour
        letters = rng.random(cell // 6) < 0.7
        for i in np.flatnonzero(letters[1:-1]):
            picture[36:54, x + 9 + i * 6 : x + 12 + i * 6] = 1 - colour
        door = rng.integers(6, cell - 24)
        picture[74:235, x + 4 : x + cell - 4] = _glass(rng, 161, cell - 8)
        for _ in range(6):
            gx, gy = rng.integers(6, cell - 16), rng.integers(120, 215)
            picture[gy : gy + 18, x + gx : x + gx + 9] = rng.random(3)
        picture[80:, x + door : x + door + 18] = colour * 0.5
        if rng.random() < 0.4:
            stripes = (np.arange(cell - 2) // 6 % 2)[None, :, None]
            picture[66:95, x + 1 : x + cell - 1] = np.where(stripes, colour, 0.95)
    return picture


def _leaves(rng: np.random.Generator) -> Array:
    picture = np.zeros((SIZE, SIZE, 4))
    picture[..., :3] = (0.22, 0.34, 0.12)
    for depth in np.linspace(0.25, 1.0, 240):
        radius = SIZE * 0.47 * np.sqrt(rng.random())
        angle = rng.uniform(0, 2 * np.pi)
        x, y = SIZE / 2 + radius * np.array([np.cos(angle), np.sin(angle)])
        green = (0.35 + 0.2 * rng.random(), 0.62, 0.2 + 0.1 * rng.random())
        colour = tuple(float(c * depth * rng.uniform(0.7, 1.2)) for c in green)
        size = (int(rng.integers(8, 15)), int(rng.integers(4, 8)))
        cv2.ellipse(picture, (int(x), int(y)), size, float(rng.uniform(0, 180)), 0, 360, (*colour, 1.0), -1)
    return picture


def _sign(rng: np.random.Generator) -> Array:
    """A plate: a rim, a ground, and some figure."""
    ground, rim, figure = _SIGN_COLOURS[rng.integers(len(_SIGN_COLOURS))]
    picture = np.ones((SIZE, SIZE, 3)) * ground
    cv2.rectangle(picture, (8, 8), (SIZE - 9, SIZE - 9), rim, 22)
    if rng.random() < 0.5:
        tip = int(rng.integers(60, 110))
        cv2.arrowedLine(picture, (128, 205), (tip + 40, 55), figure, 22, tipLength=0.4)
    else:
        for row in range(3):
            cv2.line(picture, (50, 80 + 48 * row), (int(rng.integers(120, 205)), 80 + 48 * row), figure, 16)
    return picture


_SIGN_COLOURS = [
    ((1.0, 1.0, 1.0), (0.85, 0.1, 0.1), (0.1, 0.1, 0.1)),
    ((0.1, 0.3, 0.75), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((0.95, 0.8, 0.1), (0.1, 0.1, 0.1), (0.1, 0.1, 0.1)),
    ((0.8, 0.1, 0.1), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((0.1, 0.45, 0.2), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
]


def _coach(rng: np.random.Generator) -> Array:
    """The side of a bus: a row of windows over painted metal."""
    picture = np.ones((SIZE, SIZE, 3)) * 0.9
    picture[150:175] *= 0.5
    for column in range(BAYS):
        x = column * SIZE // BAYS
        picture[45:130, x + 4 : x + 60] = _glass(rng, 85, 56)
    return picture


def _cargo(rng: np.random.Generator) -> Array:
    ribs = 0.85 + 0.12 * np.sign(np.sin(np.arange(SIZE) / SIZE * 2 * np.pi * 16))
    picture = np.tile(ribs[None, :, None], (SIZE, 1, 3)) * _grey(0.9 + 0.2 * (noise(rng, 3) - 0.5))
    if rng.random() < 0.6:
        x, y = rng.integers(20, 90, 2)
        picture[y : y + 90, x : x + 140] = rng.random(3)
    return picture
