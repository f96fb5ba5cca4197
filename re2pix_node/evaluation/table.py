"""The printed table: at most 120 columns wide."""

import textwrap
from typing import Any

from re2pix_node.evaluation.bootstrap import FEWEST

COLUMNS = {
    "smooth_l1": "SmoothL1",
    "cosine": "cosine",
    "accuracy": "accuracy",
    "miou": "mIoU",
    "moving_miou": "moving",
    "changed_accuracy": "chg acc",
    "changed_miou": "chg mIoU",
    "ece": "ECE",
    "consistency": "consist.",
}
LABEL, WIDTH = 10, 11
PAGE = 120


def table(result: dict[str, Any]) -> list[str]:
    lines = wrapped("", heading(result))
    for horizon in result["horizons"]:
        lines += ["", f"in {span(horizon['seconds'])}"]
        lines.append(f"{'':{LABEL}}" + "".join(f"{title:>{WIDTH}}" for title in [*COLUMNS.values(), "gap mIoU"]))
        for row, scored in horizon["rows"].items():
            cells = [cell(scored[name]) for name in COLUMNS]
            cells.append(cell(scored["gap_closed"].get("miou"), percent=True))
            lines.append(f"{row:{LABEL}}" + "".join(f"{text:>{WIDTH}}" for text in cells))
        lines += wrapped("", horizon["verdict"])
    now = ", ".join(f"{COLUMNS.get(name, name)} {cell(value)}" for name, value in result["now"].items())
    return [*lines, "", *wrapped("now: ", [now]), *wrapped("note: ", result["notes"])]


def wrapped(start: str, texts: list[str]) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(start + text, PAGE, subsequent_indent="  ")]


def heading(result: dict[str, Any]) -> list[str]:
    bundle, engine, rate = result["bundle"], result["engine"], result["rate"]
    labels = {"true": "true labels", "pseudo": "the head's output on the true future frame (no true labels)"}
    interval = result["interval"]
    sure = f"no intervals: fewer than {FEWEST} clips"
    if interval:
        sure = f"± half of a {interval['level']:.0%} interval over {interval['clips']} clips"
    return [
        f"{bundle['name']} {bundle['version']} on {len(result['clips'])} clips, {result['samples']} samples "
        f"({result['labelled_samples']} labelled); {sure}",
        f"labels are compared with {labels[result['reference']]}; ridge: {result['ridge']}",
        f"{engine['name']} {engine['precision']}: {rate['frames_per_second']:.1f} frames a second "
        f"(encode {rate['encode_ms']:.1f} ms, forecast {rate['forecast_ms']:.1f} ms)",
    ]


def span(seconds: dict[str, float]) -> str:
    text = f"{seconds['mean']:.2f} s"
    if seconds["max"] - seconds["min"] >= 0.005:
        text += f" ({seconds['min']:.2f} to {seconds['max']:.2f})"
    return text


def cell(figure: dict[str, float | None] | None, percent: bool = False) -> str:
    """The value, and half the width of its interval if there is one."""
    if figure is None or figure["value"] is None:
        return "-"

    def text(value: float) -> str:
        return f"{value:.0%}" if percent else f"{value:.3f}"

    if figure["low"] is None or figure["high"] is None:
        return text(figure["value"])
    half = text((figure["high"] - figure["low"]) / 2)
    return f"{text(figure['value'])}±{half.lstrip('0') if not percent else half}"
