"""`re2pix train`: from footage to a run that `re2pix export` makes a bundle of."""

import argparse
import importlib
import importlib.util
from pathlib import Path

from re2pix_node.errors import Re2pixError

NEEDED = ("torch", "accelerate", "onnx", "onnxscript")
STEPS = {
    "pca": "the basis of the features: principal components of the backbone's layers",
    "head": "what names the classes in features, learnt from labelled frames",
    "forecaster": "what forecasts features, learnt from unlabelled footage",
    "vae": "the autoencoder that pictures are rendered through, learnt from single frames",
    "renderer": "what draws the picture of a future from its features",
    "finisher": "what puts the drawn picture and the newest one, moved on, together",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(required=True, dest="step", metavar="STEP")
    for name, summary in STEPS.items():
        step = steps.add_parser(name, help=summary, description=f"Trains {summary}.")
        step.add_argument("run_file", type=Path, metavar="RUN.yaml", help="what to train, and on what (docs/train.md)")
        step.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder of the run")
        step.add_argument("--force", action="store_true", help="repeat this step and drop what was built on it")


def run(options: argparse.Namespace) -> int:
    """One step; where it was begun before, it goes on."""
    require_training()
    # By name: who only asks for help needs no torch, and strict typing ends where torch begins.
    steps = importlib.import_module("re2pix_node.training.steps")
    return int(steps.run_step(options.step, options.run_file, options.output, options.force))


def require_training() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Re2pixError(f"needs {', '.join(missing)}, which the node does not: pip install -r requirements/train.txt")
