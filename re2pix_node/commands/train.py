"""`re2pix train`: trains a run on footage; `re2pix export` makes a bundle of it."""

import argparse
import importlib
import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from re2pix_node.errors import Re2pixError

NEEDED = ("torch", "accelerate", "onnx", "onnxscript")
STEPS = {
    "pca": "the basis of the features: principal components of the backbone's layers",
    "head": "the head that reads classes from features, trained on labelled frames",
    "forecaster": "the forecaster of features, trained on footage without labels",
    "vae": "the autoencoder of the renderer, trained on single frames",
    "renderer": "the renderer, which draws the picture of a future from its features",
    "finisher": "the finisher, which mixes the drawn picture and the moved newest one",
}


SIMULATING = 0.25  # share of the minutes: rendering slows down a GPU that trains
FIRST_SEED = 4000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pack", type=Path, help="train from what re2pix pack wrote, in place of a step of a run")
    parser.add_argument("--minutes", type=float, help="with --pack: stop after so many; weights are stored each minute")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="with --pack: the folder of weights and log")
    parser.add_argument("--resume", type=Path, metavar="WEIGHTS", help="with --pack: go on from these")
    parser.add_argument("--simulate", type=int, default=1, metavar="N", help="with --pack: processes that make drives")
    parser.add_argument("--drives", type=Path, help="with --pack: use (and delete) the exact drives here, make none")
    parser.add_argument("--batch", type=int, nargs=4, help="with --pack: chunks: exact, labelled, real, moved stills")
    parser.add_argument("--frames", type=int, help="with --pack: simulated frames to keep in memory, 0.7 MB each")
    parser.add_argument("--real-frames", type=int, help="with --pack: real frames of each kind to keep, 0.3 MB each")
    parser.add_argument("--held", type=int, default=5, help="with --pack: drives to judge by (default: %(default)s)")
    parser.add_argument("--rate", type=float, help="with --pack: the greatest learning rate")
    steps = parser.add_subparsers(dest="step", metavar="STEP")
    for name, summary in STEPS.items():
        step = steps.add_parser(name, help=summary, description=f"Trains {summary}.")
        step.add_argument("run_file", type=Path, metavar="RUN.yaml", help="footage and settings (docs/train.md)")
        step.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder of the run")
        step.add_argument("--force", action="store_true", help="repeat this step and drop what was built on it")


def run(options: argparse.Namespace) -> int:
    """Train one step, or continue it if it was started before."""
    if options.pack:
        return _train_packed(options)
    if not options.step:
        raise Re2pixError(f"needs a step ({', '.join(STEPS)}), or --pack")
    require_training()
    # Imported by name, so that `--help` and strict typing need no torch.
    steps = importlib.import_module("re2pix_node.training.steps")
    return int(steps.run_step(options.step, options.run_file, options.output, options.force))


def _train_packed(options: argparse.Namespace) -> int:
    if options.step:
        raise Re2pixError(f"--pack trains all at once: leave out {options.step}")
    if not options.minutes or options.minutes <= 0 or not options.output:
        raise Re2pixError("--pack needs --minutes, above 0, and --output")
    require_training(("torch",))
    learn = importlib.import_module("re2pix_node.training.mover.learn")
    given = {name: getattr(options, name) for name in ("resume", "batch", "frames", "real_frames", "rate", "held")}
    chosen = {name: value for name, value in given.items() if value is not None}
    with _drives(options) as drives:
        learn.Learner(learn.LearnOptions(options.pack, drives, options.output, options.minutes, **chosen)).run()
    print(f"{options.output}: trained; now: re2pix export {options.output} --pack {options.pack} -o NEW")
    return 0


@contextmanager
def _drives(options: argparse.Namespace) -> Iterator[Path]:
    """A folder with exact drives: the user's, or one that processes of ours fill at the beginning."""
    if options.drives:
        yield options.drives
        return
    exact = importlib.import_module("re2pix_node.simulator.exact")
    with tempfile.TemporaryDirectory(prefix="re2pix-drives-") as folder:
        seconds = SIMULATING * 60 * options.minutes
        least = -(-(options.held + 1) // options.simulate)
        processes = exact.start(Path(folder), options.simulate, FIRST_SEED, seconds=seconds, least=least)
        try:
            yield Path(folder)
        finally:
            for process in processes:
                process.close()


def require_training(needed: tuple[str, ...] = NEEDED) -> None:
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise Re2pixError(f"needs {', '.join(missing)}, which the node does not: pip install -r requirements/train.txt")
