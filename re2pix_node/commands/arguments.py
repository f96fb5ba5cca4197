"""Command-line options that several commands share."""

import argparse
from collections.abc import Sequence

from re2pix_node.bundle.locate import DEFAULT_BUNDLE, bundle_folder
from re2pix_node.engines.registry import PRECISIONS, engine_names
from re2pix_node.pipeline.model_choice import ModelChoice


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --bundle and the options of its engine."""
    add_bundle_argument(parser)
    parser.add_argument("--engine", default="auto", help=_choice(engine_names()))
    parser.add_argument("--precision", default="auto", help=_choice(PRECISIONS))
    add_threads_argument(parser)
    parser.add_argument("--fit", help="crop, stretch or pad frames to the model's size (default: the bundle's)")


def _choice(names: Sequence[str]) -> str:
    """The names in words; the first is the default."""
    first, *others, last = names
    return f"{', '.join([f'{first} (default)', *others])} or {last}"


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=0, help="threads of the engine (0: all cores)")


def add_bundle_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bundle",
        type=bundle_folder,
        default=bundle_folder(DEFAULT_BUNDLE),
        metavar="B",
        help=f"the folder of a model bundle, or the name of one that ships (default: {DEFAULT_BUNDLE})",
    )


def model_choice(options: argparse.Namespace) -> ModelChoice:
    """The choice made by the options of `add_bundle_arguments`."""
    return ModelChoice(options.bundle, options.engine, options.precision, options.threads, options.fit)
