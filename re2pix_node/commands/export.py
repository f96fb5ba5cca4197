"""`re2pix export`: makes a bundle of a trained run."""

import argparse
import importlib
from pathlib import Path

from re2pix_node.commands.arguments import add_bundle_argument
from re2pix_node.commands.train import require_training
from re2pix_node.common.atomic_write import require_place
from re2pix_node.errors import Re2pixError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder that re2pix train wrote to")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder of the new bundle")
    parser.add_argument("--name", help="name of the bundle (default: the folder's name)")
    parser.add_argument("--version", default="1", help="default: 1")
    parser.add_argument("--description", default="Trained by re2pix train.", help="a sentence")
    parser.add_argument("--licence", default="not stated", help="of the trained weights; the backbone has its own")
    parser.add_argument("--pack", type=Path, help="of a folder that re2pix train --pack wrote to: the pack")
    parser.add_argument("--drives", type=Path, help="with --pack: drives to calibrate by, which nothing learnt from")
    add_bundle_argument(parser)
    parser.add_argument("--force", action="store_true", help="replace an existing folder")


def run(options: argparse.Namespace) -> int:
    require_training()
    require_place(options.output, options.force)
    if options.pack:
        return _export_packed(options)
    # Imported by name, so that strict typing needs no torch.
    export = importlib.import_module("re2pix_node.training.export")
    folders = importlib.import_module("re2pix_node.training.run_folder")
    name = options.name or options.output.absolute().name
    identity = export.Identity(name, options.version, options.description, options.licence)
    bundle = export.export_run(folders.read_run_folder(options.folder), options.output, identity, options.force)
    pictures = ", with pictures" if bundle.manifest.render else ""
    print(f"{options.output}: {bundle.manifest.name}{pictures}, written; now: re2pix check {options.output}")
    return 0


def _export_packed(options: argparse.Namespace) -> int:
    """The encoder and the pictures stay those of --bundle."""
    drives = sorted(options.drives.glob("*.npz")) if options.drives else []
    if not drives:
        raise Re2pixError("--pack needs --drives: python -m re2pix_node.simulator.exact DIR makes some")
    export = importlib.import_module("re2pix_node.training.mover.export")
    export.export(options.folder, options.pack, options.bundle, drives, options.version, options.output, options.force)
    print(f"{options.output}: written; now: re2pix check {options.output}")
    return 0
