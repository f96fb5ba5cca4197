"""The work of `re2pix evaluate-pictures`: from footage to figures, a table and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class PictureScoring:
    """What to score, and by what."""

    run_folder: Path
    data: Sequence[Path]
    every: int = 1
    last: bool = False  # the last horizon only
    sampling: int | None = None  # steps; None is the run's
    guidance: float | None = None
    lpips: str = "alexnet"
    lpips_weights: Path | None = None
    i3d: Path | None = None


def score(asked: PictureScoring) -> tuple[dict[str, Any], list[PictureTally]]:
    """The figures, and what they are computed from, clip by clip."""
    fvd = FvdTally(read_i3d(asked.i3d).describe) if asked.i3d else None
    lpips = Lpips(asked.lpips, asked.lpips_weights)
    painter = Painter(read_run_folder(asked.run_folder), asked.sampling, asked.guidance)
    clips = [clip for path in asked.data for clip in open_clips(path)]
    judged = []
    with progress_bar("rendering", "clip", len(clips)) as progress:
        for clip in clips:
            progress.set_postfix_str(clip.name, refresh=False)
            tally = judge_clip(painter, lpips, clip, asked.every, asked.last, fvd)
            progress.update()
            if tally.samples:
                judged.append(tally)
    if not judged:
        raise Re2pixError("the footage has no context with a future behind it: see docs/data.md")
    result = {
        "clips": len(judged),
        "samples": sum(tally.samples for tally in judged),
        "only_last": asked.last,
        "horizons": figures([tally.horizons for tally in judged]),
    }
    if fvd is not None:
        result["fvd"] = fvd.figures()
    return result, judged


def save_sheet(path: Path, judged: Sequence[PictureTally], lines: int | None) -> None:
    """Pictures of some clips, evenly chosen; None is all."""
    with write_beside(path, replace=True) as partial:
        save_picture(partial, sheet([line(tally) for tally in evenly(judged, lines)]))


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
