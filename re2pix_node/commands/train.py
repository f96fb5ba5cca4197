"""`re2pix train`: trains a run on footage; `re2pix export` makes a bundle of it."""

import argparse
import importlib
import importlib.util
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(required=True, dest="step", metavar="STEP")
    for name, summary in STEPS.items():
        step = steps.add_parser(name, help=summary, description=f"Trains {summary}.")
        step.add_argument("run_file", type=Path, metavar="RUN.yaml", help="footage and settings (docs/train.md)")
        step.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder of the run")
        step.add_argument("--force", action="store_true", help="repeat this step and drop what was built on it")


def run(options: argparse.Namespace) -> int:
    """Train one step, or continue it if it was started before."""
    require_training()
    # Imported by name, so that `--help` and strict typing need no torch.
    steps = importlib.import_module("re2pix_node.training.steps")
    return int(steps.run_step(options.step, options.run_file, options.output, options.force))


def require_training() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Re2pixError(f"needs {', '.join(missing)}, which the node does not: pip install -r requirements/train.txt")
