"""`re2pix bench`: times of every graph on every engine of this machine."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from re2pix_node.arguments import add_bundle_argument, add_threads_argument
from re2pix_node.bundle import Bundle, read_bundle
from re2pix_node.doctor import cpu_model
from re2pix_node.engines import RUNTIMES, try_engine
from re2pix_node.engines.base import Engine
from re2pix_node.errors import EngineError, Re2pixError
from re2pix_node.partial import write_beside
from re2pix_node.percentile import percentile

Times = dict[str, list[float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bundle_argument(parser)
    add_threads_argument(parser)
    parser.add_argument("--runs", type=int, default=100, help="measured runs of each graph")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def run(options: argparse.Namespace) -> int:
    runs = options.runs
    if runs < 1:
        raise Re2pixError(f"--runs must be at least 1, is {runs}")
    bundle = read_bundle(options.bundle)
    threads = options.threads or len(os.sched_getaffinity(0))
    engines = list(_engines(bundle, threads))
    if not engines:
        raise EngineError(f"no engine of this machine reproduces {bundle.path}: re2pix check {bundle.path} says why")
    rows = [_row(engine, times) for engine, times in zip(engines, _measure(bundle, engines, runs), strict=True)]
    fastest = min(row["both_ms"] for row in rows)
    print(f"{bundle.manifest.name}, {threads} threads, {runs} runs each, {cpu_model()}; milliseconds, median (p99)")
    for row in rows:
        print(
            f"  {row['engine']:<18} encode {row['encode_ms']:8.2f} ({row['encode_p99_ms']:.2f})   "
            f"forecast {row['forecast_ms']:8.2f} ({row['forecast_p99_ms']:.2f})   "
            f"both {row['both_ms']:8.2f} = {row['both_ms'] / fastest:.2f} x the fastest"
        )
    if options.json:
        machine = {"cpu": cpu_model(), "system": platform.platform(), "threads": threads, "runs": runs}
        with write_beside(options.json, replace=True) as partial:
            partial.write_text(json.dumps({"bundle": bundle.manifest.name, **machine, "rows": rows}, indent=1) + "\n")
        print(options.json)
    return 0


def _engines(bundle: Bundle, threads: int) -> list[Engine]:
    engines = []
    for runtime in RUNTIMES:
        try:
            precisions = runtime.precisions()
        except EngineError:
            continue
        tried = [try_engine(runtime, bundle, precision, threads)[0] for precision in precisions]
        engines += [engine for engine in tried if engine]
    return engines


def _measure(bundle: Bundle, engines: list[Engine], runs: int) -> list[Times]:
    """Engines take turns, so that whatever slows the machine for a while slows all of them."""
    proof = bundle.proof()
    context = [proof[f"forecast.context_{i}"] for i in range(bundle.manifest.time.context)]
    contexts = [[engine.upload(features) for features in context] for engine in engines]
    noise = proof.get("forecast.noise")
    times: list[Times] = [{"encode": [], "forecast": []} for _ in engines]
    for turn in range(runs + 3):
        for engine, held, measured in zip(engines, contexts, times, strict=True):
            encode = _seconds(lambda engine=engine: engine.encode(proof["encode.frame"]))  # type: ignore[misc]
            forecast = _seconds(lambda engine=engine, held=held: engine.forecast(held, noise))  # type: ignore[misc]
            if turn >= 3:  # the first are warm-up
                measured["encode"].append(encode)
                measured["forecast"].append(forecast)
    return times


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _row(engine: Engine, times: Times) -> dict[str, float]:
    row: dict[str, float] = {"engine": f"{engine.name} {engine.precision}", "version": engine.version}  # type: ignore[dict-item]
    for graph, seconds in times.items():
        row[f"{graph}_ms"] = 1e3 * statistics.median(seconds)
        row[f"{graph}_p99_ms"] = 1e3 * percentile(seconds, 0.99)
    row["both_ms"] = row["encode_ms"] + row["forecast_ms"]
    return row
