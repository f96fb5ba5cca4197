"""The report: one self-contained HTML page with the result and pictures of some clips."""

import base64
from html import escape
from typing import Any

from re2pix_node.evaluation.classes import Classes
from re2pix_node.evaluation.pictures import DIFFERENCE, panels
from re2pix_node.evaluation.plots import clips_plot, reliability_plot, scores_plot
from re2pix_node.evaluation.rows import COPY, FORECAST, ORACLE
from re2pix_node.evaluation.scoring import Snapshot
from re2pix_node.evaluation.table import COLUMNS, heading, span

GAP_TITLES = {
    "miou": "gap closed, mIoU",
    "changed_accuracy": "gap closed, chg acc",
    "smooth_l1": "gap closed, SmoothL1",
}
EXPLAINED = {
    "SmoothL1, cosine": "distance of predicted features from those of the true frame, and their mean cosine",
    "accuracy, mIoU, moving": "of the labels, over all pixels; moving: mIoU of the classes that move by themselves",
    "chg acc, chg mIoU": "only where the true class differs from now: copying or blurring gains nothing there",
    "ECE": "mean difference between confidence and the share that is right: 0 for calibrated confidence",
    "consist.": "share of pixels on which a forecast agrees with the later forecast of that moment, one horizon nearer",
    "gap closed": "(row - copy) / (oracle - copy): 0 is copying, 100% is perfect features",
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1f; max-width: 80rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; margin: .6rem 0 1.2rem }
th, td { padding: .2rem .4rem; text-align: right; vertical-align: top } th { font-weight: 600 }
th:first-child, td:first-child { text-align: left; white-space: nowrap } tr { border-bottom: 1px solid #e4e4e8 }
tr.forecast { background: #fff1e8 } td small { color: #666; display: block; font-size: 11px; white-space: nowrap }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem } .wide { overflow-x: auto }
figure { margin: 0 .5% .6rem 0; display: inline-block; width: 32% ; min-width: 15rem } figure img { width: 100% }
figcaption { font-size: 12px; color: #444 } img.plot { max-width: 100% } .no { color: #a33c00 } .yes { color: #00563b }
.swatch { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em; border: 1px solid #999 }
"""


def report(result: dict[str, Any], classes: Classes, shots: dict[str, Snapshot]) -> str:
    """The page; `shots` are the moments to show, by clip name."""
    title = f"{result['bundle']['name']} {result['bundle']['version']}: how good are its forecasts?"
    parts = [
        f"<h1>{escape(title)}</h1>",
        "".join(f"<p>{escape(line)}</p>" for line in heading(result)),
        _section("Verdict", _verdict(result)),
        _section("Scores", "".join(_scores(horizon) for horizon in result["horizons"]) + _explained(result)),
        _section("Over the horizons", _plot(scores_plot(result), "scores over the horizons")),
        _section("Classes", "".join(_classes(horizon) for horizon in result["horizons"])),
        _section("Confidence", _plot(reliability_plot(result), "reliability of the confidence") + _now(result)),
        _section("Clips", _clips(result, classes, shots)),
        _section("How it was measured", _measured(result)),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<link rel="icon" href="data:,"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{body}"


def _verdict(result: dict[str, Any]) -> str:
    lists = []
    for horizon in result["horizons"]:
        kinds = ["yes" if against["beats"] else "no" for against in horizon["against"].values()]
        pairs = zip(kinds, horizon["verdict"], strict=True)
        lists.append("<ul>" + "".join(f'<li class="{kind}">{escape(text)}</li>' for kind, text in pairs) + "</ul>")
    return "".join(lists) + "".join(f"<p>{escape(note)}</p>" for note in result["notes"])


def _scores(horizon: dict[str, Any]) -> str:
    titles = ["", *COLUMNS.values(), *GAP_TITLES.values()]
    lines = []
    for row, scored in horizon["rows"].items():
        cells = [_cell(scored[name]) for name in COLUMNS]
        cells += [_cell(scored["gap_closed"].get(name), percent=True) for name in GAP_TITLES]
        lines.append(f'<tr class="{row}"><td>{row}</td>{"".join(cells)}</tr>')
    return _table(f"In {span(horizon['seconds'])}", titles, lines)


def _classes(horizon: dict[str, Any]) -> str:
    rows = horizon["rows"]
    lines = []
    for name, scored in rows[FORECAST]["classes"].items():
        if not scored["pixels"] and scored["iou"]["value"] is None:
            continue
        cells = [_cell(rows[row]["classes"][name]["iou"]) for row in rows]
        moving = " (moving)" if scored["moving"] else ""
        lines.append(f"<tr><td>{escape(name)}{moving}</td><td>{scored['pixels']:,}</td>{''.join(cells)}</tr>")
    return _table(f"IoU of each class, in {span(horizon['seconds'])}", ["class", "true pixels", *rows], lines)


def _table(caption: str, titles: list[str], lines: list[str]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    return f'<div class="wide"><table><caption>{escape(caption)}</caption><tr>{head}</tr>{"".join(lines)}</table></div>'


def _cell(figure: dict[str, float | None] | None, percent: bool = False) -> str:
    if figure is None or figure["value"] is None:
        return "<td>-</td>"

    def text(value: float) -> str:
        return f"{value:.0%}" if percent else f"{value:.3f}"

    interval = ""
    if figure["low"] is not None and figure["high"] is not None:
        interval = f"<small>{text(figure['low'])} to {text(figure['high'])}</small>"
    return f"<td>{text(figure['value'])}{interval}</td>"


def _explained(result: dict[str, Any]) -> str:
    rows = "".join(f"<li><b>{row}</b>: {escape(text)}</li>" for row, text in result["row_meaning"].items())
    columns = "".join(f"<li><b>{title}</b>: {escape(text)}</li>" for title, text in EXPLAINED.items())
    return f"<p>Rows</p><ul>{rows}</ul><p>Columns; small print: the interval over clips</p><ul>{columns}</ul>"


def _now(result: dict[str, Any]) -> str:
    cells = [_cell(scored) for scored in result["now"].values()]
    return _table(
        "The segmentation of now", [COLUMNS.get(name, name) for name in result["now"]], [f"<tr>{''.join(cells)}</tr>"]
    )


def _clips(result: dict[str, Any], classes: Classes, shots: dict[str, Snapshot]) -> str:
    parts = [_plot(clips_plot(result), "gain on copying, clip by clip"), _legend(classes)]
    true_title = "true labels" if result["reference"] == "true" else "the head on the true future"
    gains = {clip["name"]: clip["gain"] for clip in result["ranking"]["clips"]}
    for word, name in result["ranking"]["shown"].items():
        shot = shots[name]
        figures = [_figure(caption, png) for caption, png in panels(shot, classes, true_title).items()]
        changed = f"its moment of most change ({shot.change:.0%} of pixels)"
        parts.append(f"<h3>{word}: {escape(name)}</h3><p>gain {gains[name]:+.3f}; {changed}</p>{''.join(figures)}")
    return "".join(parts) + _clip_table(result)


def _figure(caption: str, png: bytes) -> str:
    text = escape(caption)
    return f'<figure><img alt="{text}" src="{_data(png, "png")}"><figcaption>{text}</figcaption></figure>'


def _clip_table(result: dict[str, Any]) -> str:
    by_name = {clip["name"]: clip for clip in result["clips"]}
    lines = []
    for name in (clip["name"] for clip in result["ranking"]["clips"]):
        last = by_name[name]["horizons"][-1]
        cells = [_cell({"value": last[row][score], "low": None, "high": None}) for score in _PER_CLIP for row in _SHOWN]
        lines.append(f"<tr><td>{escape(name)}</td><td>{by_name[name]['samples']}</td>{''.join(cells)}</tr>")
    titles = ["clip", "samples", *(f"{COLUMNS[score]} {row}" for score in _PER_CLIP for row in _SHOWN)]
    return _table("Each clip at the longest horizon, best first", titles, lines)


_SHOWN = (COPY, FORECAST, ORACLE)
_PER_CLIP = ("smooth_l1", "miou", "changed_accuracy")


def _legend(classes: Classes) -> str:
    named = list(zip(classes.names, classes.colours.tolist(), strict=False))
    lines = []
    for what, entries in (("Classes", named), ("Difference", DIFFERENCE.items())):
        swatches = "".join(
            f'<span class="swatch" style="background: rgb({r}, {g}, {b})"></span>{escape(name)}'
            for name, (r, g, b) in entries
        )
        lines.append(f"<p>{what}:{swatches}</p>")
    return "".join(lines)


def _measured(result: dict[str, Any]) -> str:
    bundle, interval = result["bundle"], result["interval"]
    facts = [
        f"Bundle {bundle['name']} {bundle['version']}, basis {bundle['basis'][:16]}.",
        f"Engine {result['engine']['name']} {result['engine']['precision']} {result['engine']['version']}.",
        f"Every {result['every']}. moment of each clip; data: {', '.join(result['data'])}.",
        f"Ridge: {result['ridge']}.",
        f"SmoothL1 turns at {result['beta']}; ECE in {result['bins']} bins of equal width.",
    ]
    if interval:
        facts.append(f"Intervals: {interval['kind']}, {interval['resamples']} resamples, seed {interval['seed']}.")
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    return f"<ul>{items}</ul><p><code>{escape(result['command'])}</code></p>"


def _plot(svg: bytes, alt: str) -> str:
    return f'<img class="plot" alt="{escape(alt)}" src="{_data(svg, "svg+xml")}">'


def _data(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
