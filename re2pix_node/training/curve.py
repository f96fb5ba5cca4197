"""Draws the learning curves of runs:   python -m re2pix_node.training.curve runs/mine [runs/other ...] -o curve.png"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from re2pix_node.errors import Re2pixError

WINDOW = 5  # lines of the log that are averaged for a point of the training curve


def read_log(run: Path) -> list[dict[str, Any]]:
    file = run / "forecaster" / "log.jsonl"
    if not file.is_file():
        raise Re2pixError(f"{file}: is missing: give the folder of a run whose forecaster was trained")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def draw(runs: list[Path], output: Path) -> None:
    """Left: the loss on the features of each training batch. Right: the validation as a share of copying."""
    from matplotlib.figure import Figure

    figure = Figure((10, 3.6), layout="constrained")
    trained, judged = figure.subplots(1, 2)
    for run in runs:
        log = read_log(run)
        losses = [line["features"] for line in log]
        smooth = [sum(losses[max(0, i - WINDOW + 1) : i + 1]) / min(WINDOW, i + 1) for i in range(len(log))]
        trained.plot([line["step"] for line in log], smooth, label=run.name)
        points = [line for line in log if "val of copying" in line]
        horizons = [name for name in points[0] if name.startswith("val h")] if points and len(runs) == 1 else []
        for name in horizons or ["val of copying"]:
            label = name.removeprefix("val ") if horizons else run.name
            judged.plot([line["step"] for line in points], [line[name] for line in points], "o-", label=label)
    trained.set_title(f"SmoothL1 of features in training (mean of {WINDOW} batches)")
    judged.set_title("validation: SmoothL1 in shares of copying")
    for panel in (trained, judged):
        panel.set_xlabel("steps")
        panel.grid(alpha=0.25)
        panel.legend(frameon=False)
    figure.savefig(output, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draws the learning curves of runs.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="F.png")
    options = parser.parse_args()
    try:
        draw(options.runs, options.output)
    except Re2pixError as error:
        print(f"curve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
