"""`re2pix bench`: time, memory and share of the possible speed of a bundle on every engine of this machine."""

import argparse
import json
import os
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from re2pix_node.bench.machine import describe_machine
from re2pix_node.bench.measure import BenchPlan, Figures, bench
from re2pix_node.bench.official import SIZES, official_bundle
from re2pix_node.bench.table import bench_table
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.commands.arguments import add_bundle_argument, add_threads_argument
from re2pix_node.common.atomic_write import require_place, write_beside
from re2pix_node.engines.registry import PRECISIONS, engine_names
from re2pix_node.errors import Re2pixError

SCHEMA = 1  # of the JSON file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bundle_argument(parser)
    parser.add_argument(
        "--official",
        action="append",
        default=[],
        choices=SIZES,
        help="also measure DINO-Foresight's published configuration with random weights; may be given twice",
    )
    parser.add_argument(
        "--engine", default="auto", choices=engine_names(), help="only this one (default: all on this machine)"
    )
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="only this one (default: all)")
    add_threads_argument(parser)
    parser.add_argument("--runs", type=int, default=100, help="measured runs of each graph (default: 100)")
    parser.add_argument("--json", type=Path, help="also write figures and a description of the machine to this file")


def run(options: argparse.Namespace) -> int:
    if options.runs < 1:
        raise Re2pixError(f"--runs must be at least 1, is {options.runs}")
    if options.json:
        require_place(options.json)
    threads = options.threads or len(os.sched_getaffinity(0))
    plan = BenchPlan(options.engine, options.precision, threads, options.runs)
    bundles = [read_bundle(options.bundle), *(official_bundle(size) for size in options.official)]
    told: Figures = {
        "schema": SCHEMA,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "settings": asdict(plan),
        "bundles": [],
    }
    for bundle in bundles:
        figures = bench(bundle, plan)
        told["bundles"].append(figures)
        print(bench_table(figures, told["machine"], threads, plan.runs), flush=True)
    if options.json:
        with write_beside(options.json, replace=True) as partial:
            partial.write_text(json.dumps(told, indent=1) + "\n")
        print(options.json)
    return 0
