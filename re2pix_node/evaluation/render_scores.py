"""The work of `re2pix evaluate-pictures`: from footage to a table, a file of figures, and pictures."""

import argparse
import json
import shlex
import sys
from typing import Any

from re2pix_node.common.atomic_write import write_beside
from re2pix_node.errors import Re2pixError
from re2pix_node.evaluation.bootstrap import FEWEST
from re2pix_node.evaluation.fvd import FvdTally
from re2pix_node.evaluation.i3d import read_i3d, times
from re2pix_node.evaluation.perceptual import Lpips
from re2pix_node.evaluation.render_sheet import evenly, sheet
from re2pix_node.evaluation.rendering import COPY, MOVED, PREDICTED, ROWS, Painter, PictureTally, figures, judge_clip
from re2pix_node.evaluation.table import cell, wrapped
from re2pix_node.footage.clips import open_clips
from re2pix_node.imaging.decode import Picture
from re2pix_node.pipeline.preview import save_picture
from re2pix_node.training.progress import progress_bar
from re2pix_node.training.run_folder import read_run_folder

TITLES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "miou": "mIoU"}
WIDTH = 14
LESS = {COPY: "rendered less the newest picture", MOVED: "rendered less the newest moved on"}
SHOWN = {COPY: "now, copied", MOVED: "now, moved on", PREDICTED: "rendered"}


def score(options: argparse.Namespace) -> None:
    """Print the table and write the requested files; they replace those of an earlier run."""
    fvd = FvdTally(read_i3d(options.i3d).describe) if options.i3d else None
    lpips = Lpips(options.lpips, options.lpips_weights)
    painter = Painter(read_run_folder(options.run_folder), options.sampling, options.guidance)
    clips = [clip for path in options.data for clip in open_clips(path)]
    judged = []
    with progress_bar("rendering", "clip", len(clips)) as progress:
        for clip in clips:
            progress.set_postfix_str(clip.name, refresh=False)
            tally = judge_clip(painter, lpips, clip, options.every, options.last, fvd)
            progress.update()
            if tally.samples:
                judged.append(tally)
    if not judged:
        raise Re2pixError("the footage has no context with a future behind it: see docs/data.md")
    result = {
        "command": shlex.join(["re2pix", *sys.argv[1:]]),
        "clips": len(judged),
        "samples": sum(tally.samples for tally in judged),
        "only_last": options.last,
        "horizons": figures([tally.horizons for tally in judged]),
    }
    if fvd is not None:
        result["fvd"] = fvd.figures()
    print("\n".join(table(result)))
    if options.json:
        with write_beside(options.json, replace=True) as partial:
            partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if options.sheet:
        with write_beside(options.sheet, replace=True) as partial:
            save_picture(partial, sheet([line(tally) for tally in evenly(judged, options.lines)]))


def table(result: dict[str, Any]) -> list[str]:
    label = 2 + max(map(len, (*ROWS.values(), *LESS.values())))
    sure = "± half of a 95% interval over clips" if result["clips"] >= FEWEST else "too few clips for intervals"
    said = [f"{result['clips']} clips, {result['samples']} samples; {sure}"]
    for number, horizon in enumerate(result["horizons"], 1):
        which = "last horizon" if result["only_last"] else f"horizon {number}"
        said += ["", f"{which:{label}}" + "".join(f"{title:>{WIDTH}}" for title in TITLES.values())]
        shown = {ROWS[row]: scored for row, scored in horizon["rows"].items()}
        shown |= {LESS[row]: scored for row, scored in horizon["rendered less"].items()}
        for title, scored in shown.items():
            said.append(f"{title:{label}}" + "".join(f"{cell(scored[name]):>{WIDTH}}" for name in TITLES))
    if "fvd" in result:
        said += ["", *fvd_table(result["fvd"], label)]
    return said


def fvd_table(fvd: dict[str, Any], label: int) -> list[str]:
    how = f"{fvd['videos']} videos of {fvd['pictures']} pictures"
    if times(fvd["pictures"]) > 1:
        how += f", each shown {times(fvd['pictures'])} times"
    said = [f"{how:{label}}{'FVD':>{WIDTH}}"]
    for row, value in fvd["rows"].items():
        said.append(f"{ROWS[row]:{label}}" + ("-" if value is None else f"{value:.1f}").rjust(WIDTH))
    return said + wrapped("note: ", [fvd["note"]] if fvd["note"] else [])


def line(tally: PictureTally) -> tuple[str, dict[str, Picture]]:
    """The middle sample of a clip: a caption, and pictures by title."""
    future = tally.middle
    said = {title: future.said[row] for row, title in SHOWN.items() if row in future.said}
    return f"{tally.name}, {future.seconds:.2f} s ahead", {"the true future": future.true} | said
