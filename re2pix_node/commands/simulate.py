"""`re2pix simulate`: records drives through made-up streets as rosbag2."""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from re2pix_node.common.atomic_write import remove
from re2pix_node.errors import Re2pixError
from re2pix_node.simulator.recorder import TOPICS, RecordingPlan, record
from re2pix_node.simulator.splits import SPLITS


class SimulateError(Re2pixError):
    """A simulation that cannot be made as requested."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the recordings")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "COUNT"), help="the drives of these seeds")
    which.add_argument(
        "--split", nargs=2, metavar=("NAME", "COUNT"), help=f"the first drives of a split: {', '.join(SPLITS)}"
    )
    parser.add_argument("--seconds", type=float, default=RecordingPlan.seconds, help="length of a drive (default: 20)")
    parser.add_argument("--rate", type=float, default=RecordingPlan.rate, help="frames a second (default: 17)")
    parser.add_argument("--size", default="448x224", metavar="WxH", help="size of the pictures (default: 448x224)")
    parser.add_argument(
        "--quality", type=int, default=RecordingPlan.quality, help="of the JPEGs, 1 to 100 (default: 90)"
    )
    parser.add_argument(
        "--topics", default=",".join(TOPICS), help="topics to record, any of %(default)s (depth is the largest)"
    )
    parser.add_argument("--force", action="store_true", help="make existing drives again")


def run(options: argparse.Namespace) -> int:
    """Make the drives that do not exist yet."""
    plan, seeds = _plan(options), _seeds(options)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulateError(f"{options.output}: cannot be created ({error.strerror}): choose another folder") from error
    paths = {seed: options.output / f"drive_{seed:05d}" for seed in seeds}
    todo = {seed: path for seed, path in paths.items() if options.force or not _is_made(path)}
    frames, start = 0, time.perf_counter()
    per_drive = round(plan.seconds * plan.rate)
    with tqdm(total=len(todo) * per_drive, unit="frame", disable=None, smoothing=0.05) as bar:
        for seed, path in todo.items():
            bar.set_description(path.name)
            _sweep(path)
            frames += record(path, seed, plan, options.force, bar.update)
    rate = frames / max(time.perf_counter() - start, 1e-9)
    print(f"{len(todo)} drives made, {len(seeds) - len(todo)} existed already; {frames} frames, {rate:.1f} a second")
    print(options.output)
    return 0


def _is_made(path: Path) -> bool:
    if path.exists() and not (path / "metadata.yaml").is_file():
        raise SimulateError(f"{path}: exists and is not a recording (it has no metadata.yaml): move it away")
    return path.exists()


def _sweep(path: Path) -> None:
    """Remove the remains of this drive from a killed run (kill -9, power failure)."""
    for rest in path.parent.glob(f".partial-*-{path.name}"):
        if not Path("/proc", rest.name.split("-")[1]).exists():
            print(f"re2pix simulate: {rest}: left by a run that was killed, removed", file=sys.stderr)
            remove(rest)


def _plan(options: argparse.Namespace) -> RecordingPlan:
    width, _, height = options.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and all(16 <= int(side) <= 4096 for side in (width, height))):
        raise SimulateError(f"--size {options.size}: is not a size from 16x16 to 4096x4096: write it as 448x224")
    if not 1 <= options.rate <= 120:
        raise SimulateError(f"--rate {options.rate:g}: is out of range: choose 1 to 120 frames a second")
    if not 1 / options.rate <= options.seconds <= 600:
        raise SimulateError(f"--seconds {options.seconds:g}: is out of range: choose one frame to 600 seconds")
    if not 1 <= options.quality <= 100:
        raise SimulateError(f"--quality {options.quality}: is out of range: choose 1 to 100")
    topics = tuple(name.strip() for name in options.topics.split(","))
    for name in topics:
        if name not in TOPICS:
            raise SimulateError(f"--topics: there is no '{name}': choose from {', '.join(TOPICS)}")
    return RecordingPlan(options.seconds, options.rate, (int(width), int(height)), options.quality, topics)


def _seeds(options: argparse.Namespace) -> range:
    if options.seeds is not None:
        first, count = options.seeds
        every = range(SPLITS["train"].start, SPLITS["test"].stop)
        if count < 1 or first not in every or first + count - 1 not in every:
            raise SimulateError(f"--seeds {first} {count}: there are no such seeds: choose from 0 to {every.stop - 1}")
        return range(first, first + count)
    name, count = options.split
    if name not in SPLITS:
        raise SimulateError(f"--split {name}: there is no such split: choose from {', '.join(SPLITS)}")
    if not count.isdecimal() or not 1 <= int(count) <= len(SPLITS[name]):
        raise SimulateError(f"--split {name} {count}: choose 1 to {len(SPLITS[name])} drives")
    return SPLITS[name][: int(count)]
