"""Made-up exact drives: a wall ahead of a camera that moves sideways, and a box before it that moves by itself."""

import numpy as np

from re2pix_node.footage.exact_drives import ExactDrive

HEIGHT, WIDTH = 32, 64  # of the pictures
FOCAL, WALL, BOX = 40.0, 20.0, 10.0
STEP = 1.0  # metres that the camera moves to the right each frame
BOX_STEP = -0.5  # metres that the box moves each frame
BOX_ROWS, BOX_COLUMNS = slice(6, 10), slice(12, 18)  # where it is in each frame's half-size maps


def sideways(frames: int = 5) -> ExactDrive:
    """The box keeps its place in the maps: it is as if it drove along with the camera, but for `BOX_STEP`."""
    small = (frames, HEIGHT // 2, WIDTH // 2)
    depth, instances, labels = np.full(small, WALL), np.zeros(small), np.full(small, 2)
    depth[:, BOX_ROWS, BOX_COLUMNS], instances[:, BOX_ROWS, BOX_COLUMNS] = BOX, 1
    labels[:, BOX_ROWS, BOX_COLUMNS] = 3
    camera, objects = np.stack([np.eye(4)] * frames), np.full((frames, 2, 4, 4), np.nan)
    objects[:] = np.eye(4)
    camera[:, 0, 3] = STEP * np.arange(frames)
    objects[:, 1, 0, 3] = (STEP + BOX_STEP) * np.arange(frames)
    pictures = np.random.default_rng(0).integers(0, 255, (frames, HEIGHT, WIDTH, 3))
    return ExactDrive(
        pictures.astype(np.uint8),
        labels.astype(np.uint8),
        depth.astype(np.float16),
        instances.astype(np.int16),
        camera,
        objects,
        np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]]),
    )
