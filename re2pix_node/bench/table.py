"""The figures of `re2pix bench` as a table."""

import textwrap
from typing import Any

COLUMNS = 120
HEADINGS = ("engine", "encode", "roof", "forecast", "roof", "end to end", "roof", "slower", "memory")
LEGEND = (
    "Median (p99), in ms or as marked. End to end: from a frame to its forecast in host memory. Slower: than the "
    "fastest, end to end. Memory: at most, with loading, MiB."
)
ROOF = (
    "Roof: least possible time as a share; it is the longer of two: for the arithmetic at the engine's own rate of "
    "matrix products, and for weights, inputs and outputs at the speed of copies. Here these are"
)
NO_ROOF = "No shares of the roofline: they take the Python package onnx (pip install onnx)."

Figures = dict[str, Any]


def bench_table(figures: Figures, machine: Figures, threads: int, runs: int) -> str:
    rows = [_cells(row) for row in figures["engines"]]
    # A column without any value is left out.
    kept = [i for i in range(len(HEADINGS)) if any(row[i] for row in rows)]
    lines = [[line[i] for i in kept] for line in (HEADINGS, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(kept))]
    table = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    notes = [LEGEND, *_roofs(figures), *(f"Not measured: {reason}" for reason in figures["passed_over"])]
    return "\n".join(["", *_title(figures, machine, threads, runs), "", *table, "", *map(_wrapped, notes), ""])


def _title(figures: Figures, machine: Figures, threads: int, runs: int) -> list[str]:
    bundle, work = figures["bundle"], figures["work"]
    height, width = bundle["image"]
    title = f"{bundle['name']}, {width}x{height}, {bundle['context']} frames, {bundle['horizons']} horizons"
    counted = "; ".join(f"{graph} {_giga(told['flops'])} GFLOP" for graph, told in work.items())
    gpu = [machine["gpu"]["name"]] if machine["gpu"] else []
    where = ", ".join([*gpu, machine["cpu"], f"{threads} threads", f"{runs} {'runs' if runs > 1 else 'run'} in turns"])
    return [f"{title}: {counted}" if counted else title, where]


def _cells(row: Figures) -> list[str]:
    cells = [_engine(row)]
    for stage in ("encode", "forecast", "end_to_end"):
        times = row[stage]
        cells.append(f"{_time(times['median_ms'])} ({_time(times['p99_ms'])})")
        cells.append(f"{times['share']:.0%}" if "share" in times else "")
    memory = row["memory_bytes"]
    on_gpu = "" if memory["gpu"] is None else f" + {memory['gpu'] >> 20} GPU"
    return [*cells, f"{row['times_the_fastest']:.2f}x", f"{memory['host'] >> 20}{on_gpu}"]


def _engine(row: Figures) -> str:
    return f"{row['engine']} {row['precision']}"


def _time(ms: float) -> str:
    """Three significant digits."""
    if ms >= 10_000:
        return f"{ms / 1e3:.0f} s"
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def _roofs(figures: Figures) -> list[str]:
    roofs = {_engine(row): row["roof"] for row in figures["engines"] if "roof" in row}
    if not roofs:
        return [] if figures["work"] else [NO_ROOF]
    rates = [
        f"{engine} {_giga(roof['flops_per_second'])} GFLOP/s, {_giga(roof['copied_bytes_per_second'])} GB/s"
        for engine, roof in roofs.items()
    ]
    return [f"{ROOF} {'; '.join(rates)}."]


def _giga(value: float) -> str:
    return f"{value / 1e9:,.0f}" if value >= 100e9 else f"{value / 1e9:.1f}" if value >= 1e9 else f"{value / 1e9:.2g}"


def _wrapped(note: str) -> str:
    return textwrap.fill(note, COLUMNS, subsequent_indent="  ", break_on_hyphens=False)
