"""Pictures for a proof without footage: a street of plain shapes, seen from a moving vehicle."""

import numpy as np
from numpy.typing import NDArray

SKY, ROAD, WALL, CAR = (150, 190, 230), (100, 100, 105), (150, 110, 90), (170, 30, 40)


def proof_frames(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """u8 [count, height, width, 3], the same at every call."""
    rng = np.random.default_rng(5)
    # Grain and soft light: with flat colours many activations would be exactly equal, which no camera produces.
    grain = rng.normal(0, 6, (height, width, 1))
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    light = 20 * np.sin(9 * columns + 5 * rows)[..., None]
    frames = []
    for i in range(count):
        scene = np.where((rows < 0.45)[..., None], SKY, ROAD).astype(float)
        beside = np.abs(columns - 0.5) - 0.12
        scene[(beside > 0) & (np.abs(rows - 0.45) < beside * (0.9 + 0.08 * i))] = WALL
        lane = np.abs((columns - 0.5) / np.maximum(rows - 0.42, 0.01) + 0.3) < 0.03
        scene[lane & (rows > 0.5) & (np.sin(12 / np.maximum(rows - 0.42, 0.05) + i) > 0)] = 230
        near = 0.05 + 0.015 * i
        scene[(np.abs(columns - 0.55 - 0.01 * i) < near) & (np.abs(rows - 0.48 - near / 2) < near)] = CAR
        frames.append(scene + light + np.roll(grain, 3 * i, axis=1))
    return np.clip(np.stack(frames), 0, 255).astype(np.uint8)
