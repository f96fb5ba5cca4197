"""`re2pix pack`: writes what a training on another machine needs into one folder."""

import argparse
import importlib
from pathlib import Path

from re2pix_node.commands.arguments import add_bundle_argument
from re2pix_node.commands.train import require_training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("footage", type=Path, metavar="DIR", help="videos; a .labels.npz beside one has its labels")
    add_bundle_argument(parser)
    parser.add_argument("--weights", type=Path, required=True, help="of the bundle's backbone: mobile_sam.pt")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PACK", help="the new folder")


def run(options: argparse.Namespace) -> int:
    require_training()
    # Imported by name, so that strict typing needs no torch.
    pack = importlib.import_module("re2pix_node.training.mover.pack")
    pack.write_pack(options.bundle, options.weights, options.footage, options.output)
    size = sum(file.stat().st_size for file in options.output.rglob("*") if file.is_file())
    print(f"{options.output}: {size / 1e6:.0f} MB, written; there: re2pix train --pack {options.output.name} ...")
    return 0
