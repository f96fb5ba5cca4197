"""Makes exact drives as plain arrays in several processes, while a training reads and deletes them.

python -m re2pix_node.simulator.exact FOLDER --processes 14
"""

import argparse
import math
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from re2pix_node.common.child_process import ChildProcess
from re2pix_node.footage.exact_drives import HALF, ExactDrive
from re2pix_node.simulator.drive import Drive

RATES = (5.6667, 5.6667, 7.5, 4.5)  # frames a second: each frame is one stride after the previous one
FRAMES, SIZE = 100, (448, 224)  # of a drive, and of its pictures: width and height
WAITING = 2  # drives for each process that may wait to be read


def exact_drive(seed: int, rate: float, frames: int, size: tuple[int, int]) -> ExactDrive:
    """The drive of a seed; `size` is width and height."""
    drive = Drive(seed, frames / rate, rate, size)
    moments = list(drive.frames())
    ids = 1 + max((instance for moment in moments for instance in moment.objects), default=0)
    objects = np.full((len(moments), ids, 4, 4), np.nan)
    objects[:, 0] = np.eye(4)
    for row, moment in zip(objects, moments, strict=True):
        for instance, pose in moment.objects.items():
            row[instance] = pose
    shots = [moment.shot for moment in moments]
    return ExactDrive(
        np.stack([shot.image for shot in shots]),
        np.stack([shot.segmentation[::HALF, ::HALF] for shot in shots]),
        np.stack([shot.depth[::HALF, ::HALF] for shot in shots]).astype(np.float16),
        np.stack([shot.instances[::HALF, ::HALF] for shot in shots]).astype(np.int16),
        np.stack([moment.camera for moment in moments]),
        objects,
        drive.lens.matrix,
    )


def start(
    folder: Path, processes: int, first_seed: int, frames: int = FRAMES, seconds: float = math.inf, least: int = 0
) -> list[ChildProcess]:
    """Start processes that fill `folder` for some time, each with `least` drives or more.

    They wait while drives are unread.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = (folder, processes, first_seed, frames, seconds, least)
    return [
        ChildProcess("re2pix_node.simulator.exact", "keep_simulating", number, *work) for number in range(processes)
    ]


def keep_simulating(
    _: Connection, number: int, folder: Path, processes: int, first_seed: int, frames: int, seconds: float, least: int
) -> None:
    """One of these processes."""
    os.nice(5)
    seed, made, end = first_seed + number, 0, time.monotonic() + seconds
    while time.monotonic() < end or made < least:
        if len(list(folder.glob("*.npz"))) > WAITING * processes:
            time.sleep(0.2)
            continue
        rate = RATES[seed // processes % len(RATES)]
        exact_drive(seed, rate, frames, SIZE).save(folder / f"{seed:06d}.npz")
        seed, made = seed + processes, made + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=4000)
    parser.add_argument("--frames", type=int, default=FRAMES, help="of a drive")
    options = parser.parse_args()
    for process in start(options.folder, options.processes, options.first_seed, options.frames):
        process.how_it_ended()


if __name__ == "__main__":
    main()
