"""The plots of the report, each an SVG."""

import io
from typing import Any

from re2pix_node.errors import Re2pixError
from re2pix_node.evaluation.rows import COPY, FORECAST, ORACLE, RIDGE, WARP, WARP_HEAD

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError:
    raise Re2pixError(
        "--report needs matplotlib, which is not installed: pip install -r requirements/evaluate.txt"
    ) from None

COLOURS = {
    COPY: "#777777",
    WARP: "#56b4e9",
    WARP_HEAD: "#0072b2",
    RIDGE: "#009e73",
    FORECAST: "#d55e00",
    ORACLE: "#111111",
}
SCORES = {
    "miou": "mIoU",
    "changed_accuracy": "accuracy on changed pixels",
    "smooth_l1": "SmoothL1 (less is better)",
}


def scores_plot(result: dict[str, Any]) -> bytes:
    """Scores over the horizons with a line for each row, and the closed share of the gap."""
    figure = Figure((10, 6.4), layout="constrained")
    axes = list(figure.subplots(2, 2).flat)
    for panel, (name, title) in zip(axes, SCORES.items(), strict=False):
        for row in result["horizons"][0]["rows"]:
            _line(panel, result, row, [horizon["rows"][row][name] for horizon in result["horizons"]])
        panel.set_title(title)
    for row in result["horizons"][0]["rows"]:
        if row not in (COPY, ORACLE):
            _line(axes[3], result, row, [h["rows"][row]["gap_closed"]["miou"] for h in result["horizons"]])
    axes[3].axhline(0, color=COLOURS[COPY], linewidth=0.8)
    axes[3].set_title("share of the mIoU gap closed (0 copying, 1 oracle)")
    for panel in axes:
        panel.set_xlabel("seconds ahead")
        panel.grid(alpha=0.25)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    return _svg(figure)


def _line(panel: Axes, result: dict[str, Any], row: str, figures: list[dict[str, float | None]]) -> None:
    known = [
        (horizon["seconds"]["mean"], scored)
        for horizon, scored in zip(result["horizons"], figures, strict=True)
        if scored["value"] is not None
    ]
    if not known:
        return
    values = [scored["value"] for _, scored in known if scored["value"] is not None]
    seconds = [when for when, _ in known]
    style = "--" if row == ORACLE else "-"
    panel.plot(seconds, values, style, marker="o", markersize=3.5, color=COLOURS[row], label=row)
    for when, scored in known:
        if scored["low"] is not None and scored["high"] is not None:
            panel.vlines(when, scored["low"], scored["high"], color=COLOURS[row], alpha=0.45, linewidth=2.5)


def reliability_plot(result: dict[str, Any]) -> bytes:
    """How often pixels of each confidence are right: on the diagonal if the confidence is calibrated."""
    horizons = result["horizons"]
    figure = Figure((3.4 * len(horizons) + 0.4, 3.4), layout="constrained")
    for panel, horizon in zip(figure.subplots(1, len(horizons), squeeze=False).flat, horizons, strict=True):
        panel.plot([0, 1], [0, 1], ":", color="#999999")
        for row in (COPY, FORECAST, ORACLE):
            curve = horizon["rows"][row]["reliability"]
            x, y = [each["confidence"] for each in curve], [each["accuracy"] for each in curve]
            panel.plot(x, y, "--" if row == ORACLE else "-", marker="o", markersize=3, color=COLOURS[row], label=row)
        curve = horizon["rows"][FORECAST]["reliability"]
        panel.bar(
            [each["confidence"] for each in curve],
            [each["share"] for each in curve],
            width=0.045,
            color=COLOURS[FORECAST],
            alpha=0.2,
            label="pixels (forecast)",
        )
        panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share right", aspect="equal")
        panel.set_title(f"in {horizon['seconds']['mean']:.2f} s")
    figure.axes[0].legend(fontsize=7, loc="upper left")
    return _svg(figure)


def clips_plot(result: dict[str, Any]) -> bytes:
    """The gain over copying, clip by clip."""
    gains = [clip["gain"] for clip in result["ranking"]["clips"]]
    figure = Figure((10, 2.6), layout="constrained")
    panel = figure.subplots()
    colours = [COLOURS[FORECAST] if gain > 0 else COLOURS[COPY] for gain in gains]
    panel.bar(range(1, len(gains) + 1), gains, color=colours)
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set_xlabel("clips, best first")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_title(result["ranking"]["by"], fontsize=10)
    panel.grid(axis="y", alpha=0.25)
    return _svg(figure)


def _svg(figure: Figure) -> bytes:
    file = io.BytesIO()
    # The same figures give the same bytes; text stays text, which a reader can search and copy.
    with matplotlib.rc_context({"svg.hashsalt": "re2pix", "svg.fonttype": "none", "font.size": 9}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
