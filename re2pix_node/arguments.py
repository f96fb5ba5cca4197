"""Command-line options that several commands share."""

import argparse
from pathlib import Path


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """--bundle, and what it is run with."""
    parser.add_argument("--bundle", type=Path, required=True, help="the folder of a model bundle")
    parser.add_argument("--engine", default="auto", help="auto (default), openvino or onnxruntime")
    parser.add_argument("--precision", default="auto", help="auto (default), bf16 or fp32")
    add_threads_argument(parser)
    parser.add_argument("--fit", help="crop, stretch or pad frames to fit the model (default: as the bundle says)")


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=0, help="threads of the engine (0: every core)")
