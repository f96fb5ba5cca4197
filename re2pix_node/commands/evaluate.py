"""`re2pix evaluate`: scores a bundle against baselines on footage whose future is known."""

import argparse
import dataclasses
import json
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from re2pix_node.commands.arguments import add_bundle_arguments
from re2pix_node.common.atomic_write import require_place
from re2pix_node.errors import Re2pixError

if TYPE_CHECKING:
    from re2pix_node.bundle.manifest import TimeSpec
    from re2pix_node.bundle.reader import Bundle
    from re2pix_node.engines.base import Engine
    from re2pix_node.evaluation.model import EvaluatedModel
    from re2pix_node.evaluation.scoring import ScoredDrive
    from re2pix_node.footage.clips import Clip, Sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bundle_arguments(parser)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="D", help="footage, see docs/data.md")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="score every N-th moment (default 1: all)")
    parser.add_argument("--labelled-only", action="store_true", help="score only moments with true labels")
    parser.add_argument("--ignore-labels", action="store_true", help="do not use label files as the truth")
    parser.add_argument(
        "--baselines", default="warp,warp-head,ridge", help="any of warp, warp-head, ridge; or none (default: all)"
    )
    parser.add_argument("--ridge-data", type=Path, nargs="+", default=[], metavar="D", help="fit the ridge on these")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures to this file")
    parser.add_argument("--report", type=Path, metavar="F.html", help="write a report with plots and pictures")


def run(options: argparse.Namespace) -> int:
    """Print the table and write the requested files; they replace those of an earlier run."""
    from re2pix_node.bundle.reader import read_bundle
    from re2pix_node.engines.session import open_engine
    from re2pix_node.evaluation.classes import classes_for
    from re2pix_node.evaluation.judge import judge
    from re2pix_node.evaluation.model import EvaluatedModel
    from re2pix_node.evaluation.ranking import ranking
    from re2pix_node.evaluation.table import table

    baselines = _check(options)
    bundle = read_bundle(options.bundle)
    clips = _open(options.data)
    classes, tables = classes_for(bundle.manifest.labels, [] if options.ignore_labels else clips)
    drives = _drives(clips, tables or [classes.of_bundle] * len(clips), bundle.manifest.time, options)
    apart = _open(options.ridge_data)
    ridge_drives = _drives(apart, [classes.of_bundle] * len(apart), bundle.manifest.time, options)
    engine, _ = open_engine(bundle, options.engine, options.precision, options.threads)
    model = EvaluatedModel(bundle.manifest, engine, options.fit)
    result, counted = judge(model, classes, drives, options.every, baselines, ridge_drives, _progress)
    result = _how(options, bundle, engine, model) | result
    result["ranking"] = ranking(counted, result["reference"])
    print("\n".join(table(result)))
    if options.json:
        _write(options.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    if options.report:
        from re2pix_node.evaluation.report import report

        shots = {clip.name: clip.snapshot for clip in counted if clip.snapshot}
        _write(options.report, report(result, classes, shots))
    return 0


def _check(options: argparse.Namespace) -> tuple[str, ...]:
    """Check the options before hours of scoring; return the baselines."""
    from re2pix_node.evaluation.rows import BASELINES
    from re2pix_node.imaging.geometry import FITS

    wanted = [] if options.baselines == "none" else [name.strip() for name in options.baselines.split(",")]
    for name in wanted:
        if name not in BASELINES:
            raise Re2pixError(f"there is no baseline '{name}': choose from {', '.join(BASELINES)}, or none")
    if options.every < 1:
        raise Re2pixError(f"--every must be at least 1, is {options.every}")
    if options.fit and options.fit not in FITS:
        raise Re2pixError(f"there is no fit '{options.fit}': choose one of {', '.join(FITS)}")
    for path in filter(None, (options.json, options.report)):
        require_place(path)
    if options.report:
        import re2pix_node.evaluation.plots  # noqa: F401  # says now, not at the end, if matplotlib is missing
    twice = {path.resolve() for path in options.data} & {path.resolve() for path in options.ridge_data}
    if twice:
        raise Re2pixError(f"{twice.pop()}: given as --data and as --ridge-data: fit the ridge on other clips")
    return tuple(name for name in BASELINES if name in wanted)


def _open(paths: Sequence[Path]) -> list["Clip"]:
    from re2pix_node.footage.clips import open_clips

    found = [(path, clip) for path in paths for clip in open_clips(path)]
    names = Counter(clip.name for _, clip in found)
    for path, clip in found:
        if names[clip.name] > 1:
            clip.name = f"{path}: {clip.name}"
    return [clip for _, clip in found]


def _drives(
    clips: Sequence["Clip"], tables: Sequence[Any], time: "TimeSpec", options: argparse.Namespace
) -> list["ScoredDrive"]:
    from re2pix_node.evaluation.scoring import ScoredDrive
    from re2pix_node.footage.clips import samples

    def drive(clip: "Clip", of_labels: Any) -> "ScoredDrive":
        def each(every: int) -> Iterator["Sample"]:
            for sample in samples(clip, time, every, options.labelled_only):
                yield _unlabelled(sample) if options.ignore_labels else sample

        return ScoredDrive(clip.name, each, of_labels)

    return [drive(clip, of_labels) for clip, of_labels in zip(clips, tables, strict=True)]


def _unlabelled(sample: "Sample") -> "Sample":
    return dataclasses.replace(sample, now_labels=None, future_labels=(None,) * len(sample.future_labels))


def _how(options: argparse.Namespace, bundle: "Bundle", engine: "Engine", model: "EvaluatedModel") -> dict[str, Any]:
    """The command, its footage and its engine, and the rate at which frames become forecasts."""
    # The median, because a first run warms up and other work on the machine slows only some runs.
    encode, forecast = (statistics.median(model.seconds[graph]) for graph in ("encode", "forecast"))
    return {
        "command": shlex.join(["re2pix", *sys.argv[1:]]),
        "bundle": {"name": bundle.manifest.name, "version": bundle.manifest.version, "basis": bundle.basis},
        "engine": {"name": engine.name, "precision": engine.precision, "version": engine.version},
        "data": [str(path) for path in options.data],
        "every": options.every,
        "rate": {
            "frames_per_second": 1 / (encode + forecast),
            "encode_ms": 1e3 * encode,
            "forecast_ms": 1e3 * forecast,
        },
    }


def _progress(drives: Sequence["ScoredDrive"], doing: str) -> Iterable["ScoredDrive"]:
    from tqdm import tqdm

    return tqdm(drives, desc=doing, unit="clip", disable=not sys.stderr.isatty(), file=sys.stderr)


def _write(path: Path, text: str) -> None:
    from re2pix_node.common.atomic_write import write_beside

    with write_beside(path, replace=True) as partial:
        partial.write_text(text, encoding="utf-8")
    print(path)
