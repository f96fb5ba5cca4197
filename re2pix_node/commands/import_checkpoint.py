"""`re2pix import`: makes bundles of published checkpoints."""

import argparse
import importlib
import importlib.util
from pathlib import Path

from re2pix_node.common.atomic_write import require_place
from re2pix_node.errors import Re2pixError

NEEDED = ("torch", "onnx", "onnxscript")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    kind = kinds.add_parser("dino-foresight", help="the checkpoints of DINO-Foresight")
    kind.add_argument(
        "--checkpoint", type=Path, required=True, help="the forecaster: dinof_lowres.ckpt or dinof_highres.ckpt"
    )
    kind.add_argument(
        "--head", type=Path, required=True, help="the segmentation head, head_segm_pca1152.ckpt: a bundle has masks"
    )
    kind.add_argument("-o", "--output", type=Path, required=True, help="the folder to write the bundle to")
    kind.add_argument("--name", help="name of the bundle (default: the folder's name)")
    kind.add_argument("--force", action="store_true", help="replace an existing folder")


def run(options: argparse.Namespace) -> int:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Re2pixError(f"needs {', '.join(missing)}, which the node does not: pip install {' '.join(missing)}")
    require_place(options.output, options.force)
    # Imported by name, so that `--help` and strict typing need no torch.
    importer = importlib.import_module("re2pix_node.nets.dino_foresight.bundle")
    name = options.name or options.output.name
    importer.import_dino_foresight(options.checkpoint, options.head, options.output, name, options.force)
    print(f"{options.output}: written; now: re2pix check {options.output}")
    return 0
