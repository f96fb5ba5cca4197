"""The best possible speed of a machine, and how near a graph comes to it.

The rate of matrix products is measured through the engine itself, at its precision: the roof is the rate of the layers
that the engine computes best, not the rate in a data sheet.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from re2pix_node.bench.graph_work import GraphWork
from re2pix_node.bench.products import Products
from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.base import Engine

COPIED = 256 << 20  # bytes: much larger than any cache
TRIES = 7  # the best one counts: a roof is the best that can be reached
COPIES_AT_ONCE = 8  # on a GPU, so that the time to launch one does not count


@dataclass(frozen=True)
class Roof:
    flops: float  # a second
    bytes: float  # a second, read and written

    def least_seconds(self, work: GraphWork, precision: str) -> float:
        """The lower bound for a run of the graph: it computes everything and touches all of its memory."""
        return max(work.flops / self.flops, work.bytes(precision) / self.bytes)


def product_rate(engine: Engine, bundle: Bundle, products: Products) -> float:
    """Operations a second of an engine that has loaded a bundle of `write_products`."""
    frame = bundle.proof()["encode.frame"]
    return products.flops / _best(lambda: engine.encode(frame))


def host_copy_rate(threads: int) -> float:
    """Bytes a second, read and written, of `threads` parallel copies."""
    parts = [np.ones(COPIED // threads, np.uint8) for _ in range(threads)]
    targets = [np.zeros_like(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * COPIED / _best(lambda: list(pool.map(np.copyto, targets, parts)))


def gpu_copy_rate(gpu: Any) -> float:
    """The same within the memory of a GPU, a `Cuda`."""
    gpu.enter()
    source, target = gpu.allocate(COPIED), gpu.allocate(COPIED)

    def copy() -> None:
        for _ in range(COPIES_AT_ONCE):
            gpu.copy(target.pointer, source.pointer, COPIED)
        gpu.synchronise()

    return 2 * COPIED * COPIES_AT_ONCE / _best(copy)


def _best(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
