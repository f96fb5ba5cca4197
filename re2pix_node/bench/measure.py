"""Measures time, memory and share of the possible speed of a bundle on every engine of this machine."""

import importlib.util
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from re2pix_node.bench.build_bar import wait_in_sight
from re2pix_node.bench.graph_work import GraphWork, graph_work
from re2pix_node.bench.products import FOR_CPU, FOR_GPU, Products, write_products
from re2pix_node.bench.worker import STAGES, BenchTask, Worker
from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.common.child_process import call
from re2pix_node.common.percentile import percentile
from re2pix_node.common.wording import one_line
from re2pix_node.engines.base import Runtime
from re2pix_node.engines.registry import runtimes
from re2pix_node.errors import EngineError

WARM_UP = 3  # runs, but at most as many as are measured
GRAPHS = ("encode", "forecast")

Figures = dict[str, Any]
Works = dict[str, GraphWork]


@dataclass(frozen=True)
class BenchPlan:
    """What to measure, for any bundle."""

    engine: str
    precision: str
    threads: int
    runs: int


def bench(bundle: Bundle, plan: BenchPlan) -> Figures:
    """The figures of every engine; EngineError if no engine gives any."""
    works = works_of(bundle)
    passed_over: list[str] = []
    with tempfile.TemporaryDirectory(prefix="re2pix-bench-") as folder, ExitStack() as stack:
        workers = []
        for runtime, precision in _chosen(plan, passed_over):
            try:
                have_built(runtime, bundle, precision)
                worker = Worker(BenchTask(bundle.path, runtime.name, precision, plan.threads))
            except EngineError as error:
                passed_over.append(str(error))
                continue
            stack.callback(worker.close)
            workers.append(worker)
        times = _measure(workers, plan.runs, passed_over)
        rows = [_row(worker, measured, works, Path(folder), passed_over) for worker, measured in times.items()]
    if not rows:
        raise EngineError(f"no engine of this machine can be measured with {bundle.path}: {'; '.join(passed_over)}")
    fastest = min(row["end_to_end"]["median_ms"] for row in rows)
    for row in rows:
        row["times_the_fastest"] = row["end_to_end"]["median_ms"] / fastest
    return {
        "bundle": _identity(bundle),
        "work": {graph: asdict(work) for graph, work in works.items()},
        "engines": rows,
        "passed_over": passed_over,
    }


def works_of(bundle: Bundle) -> Works:
    """The work of each graph whose work can be counted."""
    if importlib.util.find_spec("onnx") is None:
        return {}
    # In a child process: large graphs leave a gigabyte allocated, which the engines may need.
    return call(count_works, bundle)


def count_works(bundle: Bundle) -> Works:
    counted = {graph: graph_work(bundle.graph(graph)) for graph in GRAPHS}
    return {graph: work for graph, work in counted.items() if work}


def _chosen(plan: BenchPlan, passed_over: list[str]) -> Iterator[tuple[Runtime, str]]:
    for runtime in runtimes():
        if plan.engine not in ("auto", runtime.name):
            continue
        try:
            offered = runtime.precisions()
        except Exception as error:  # not installed, or broken in any way
            passed_over.append(f"{runtime.name}: {one_line(error)}")
            continue
        if plan.precision not in ("auto", *offered):
            passed_over.append(
                f"{runtime.name}: this machine does not offer it in {plan.precision}, only in {', '.join(offered)}"
            )
        yield from ((runtime, precision) for precision in offered if plan.precision in ("auto", precision))


def have_built(runtime: Runtime, bundle: Bundle, precision: str) -> None:
    """Build the engines that do not exist yet, with progress."""
    if runtime.ready is None or runtime.start_build is None or runtime.ready(bundle, precision):
        return
    name = bundle.manifest.name
    print(f"{runtime.name} {precision}: building {name}, once; this can take minutes", flush=True)
    build = runtime.start_build(bundle, precision)
    wait_in_sight(build)
    build.result()


def _measure(workers: Sequence[Worker], runs: int, passed_over: list[str]) -> dict[Worker, dict[str, list[float]]]:
    """Measure the engines in turns, so that a slow moment of the machine affects all of them."""
    times: dict[Worker, dict[str, list[float]]] = {worker: {stage: [] for stage in STAGES} for worker in workers}
    warm_up = min(WARM_UP, runs)
    layout = "{percentage:3.0f}%|{bar:30}| {elapsed}<{remaining} in turns"
    with tqdm(total=runs + warm_up, bar_format=layout, leave=False, disable=None) as bar:
        for turn in range(runs + warm_up):
            for worker in tuple(times):
                try:
                    seconds = worker.turn()
                except EngineError as error:
                    passed_over.append(str(error))
                    del times[worker]
                    continue
                if turn >= warm_up:
                    for stage in STAGES:
                        times[worker][stage].append(seconds[stage])
            bar.update()
    return times


def _row(worker: Worker, times: dict[str, list[float]], works: Works, folder: Path, passed_over: list[str]) -> Figures:
    task, memory = worker.task, worker.memory()
    row: Figures = {
        "engine": task.engine,
        "precision": task.precision,
        "version": worker.version,
        "proof": worker.proof,
    }
    for stage, seconds in times.items():
        row[stage] = {"median_ms": 1e3 * statistics.median(seconds), "p99_ms": 1e3 * percentile(seconds, 0.99)}
    row["memory_bytes"] = {"host": memory.host, "gpu": memory.gpu}
    try:
        row |= _against_the_roof(worker, row, works, folder)
    except EngineError as error:  # keep what was measured
        passed_over.append(f"{task}: no roofline: {error}")
    return row


def _against_the_roof(worker: Worker, row: Figures, works: Works, folder: Path) -> Figures:
    """The share of the best possible speed of engine and memory that each stage reached."""
    if not works:
        return {}
    on_gpu = row["memory_bytes"]["gpu"] is not None
    products = _products(folder / ("gpu" if on_gpu else "cpu"), FOR_GPU if on_gpu else FOR_CPU)
    runtime = next(runtime for runtime in runtimes() if runtime.name == worker.task.engine)
    have_built(runtime, products[0], worker.task.precision)
    roof = worker.roof(products[0].path, products[1])
    least = {graph: 1e3 * roof.least_seconds(work, worker.task.precision) for graph, work in works.items()}
    if len(least) == len(GRAPHS):
        least["end_to_end"] = sum(least.values())
    shares = {
        stage: {**row[stage], "least_ms": ms, "share": ms / row[stage]["median_ms"]} for stage, ms in least.items()
    }
    return {**shares, "roof": {"flops_per_second": roof.flops, "copied_bytes_per_second": roof.bytes}}


def _products(folder: Path, products: Products) -> tuple[Bundle, Products]:
    return (read_bundle(folder) if folder.exists() else write_products(folder, products)), products


def _identity(bundle: Bundle) -> Figures:
    m = bundle.manifest
    return {
        "name": m.name,
        "version": m.version,
        "image": [m.image.height, m.image.width],
        "context": m.time.context,
        "horizons": len(m.time.horizons),
        "samples": m.samples,
        "graphs": {graph: getattr(m.graphs, graph).sha256 for graph in GRAPHS},
    }
