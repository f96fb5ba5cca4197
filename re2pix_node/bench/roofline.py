"""What a machine can do at best, and how near to that a graph comes.

The rate of matrix products is measured through the engine itself, at its precision: its roof is what it reaches with
the layers that it is best at, and not what a data sheet says.
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

COPIED = 256 << 20  # bytes: far more than any cache holds
TRIES = 7  # of which the best counts: a roof is what can be reached
COPIES_AT_ONCE = 8  # on a GPU, so that the time to launch one does not count


@dataclass(frozen=True)
class Roof:
    flops: float  # a second
    bytes: float  # a second, read and written

    def least_seconds(self, work: GraphWork, precision: str) -> float:
        """No run of the graph can take less: it computes everything, and touches all of its memory."""
        return max(work.flops / self.flops, work.bytes(precision) / self.bytes)


def product_rate(engine: Engine, bundle: Bundle, products: Products) -> float:
    """Operations a second of an engine that was loaded with a bundle of `write_products`."""
    frame = bundle.proof()["encode.frame"]
    return products.flops / _best(lambda: engine.encode(frame))


def host_copy_rate(threads: int) -> float:
    """Bytes a second, read and written, that `threads` copies side by side make."""
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
