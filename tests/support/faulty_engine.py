"""An engine for the registry that fails as its precision says. Reached by name from child processes, too."""

import os
import signal
import sys
import time

import numpy as np

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines import onnxruntime
from re2pix_node.engines.base import Engine, Runtime
from re2pix_node.engines.registry import EngineEntry

ENTRY = EngineEntry("faulty", __name__, "for tests")
PARENT = os.environ.get("RE2PIX_FAULTY_PARENT", "")


def _load(bundle: Bundle, precision: str, threads: int) -> Engine:
    if str(os.getpid()) == PARENT:
        raise AssertionError("a bundle that fails in its trial was loaded here")
    if precision == "fp16":
        print("free(): invalid pointer\x1b[2J", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif precision == "bf16":
        time.sleep(1000)
    elif os.environ.get("RE2PIX_FAULTY_MEMORY"):
        held = []
        while True:
            held.append(np.ones(1 << 21, np.uint8))
    return onnxruntime.RUNTIME.load(bundle, "fp32", threads)


RUNTIME = Runtime(
    ENTRY.name, lambda: "1", lambda: ["fp16", "bf16", "fp32"], _load, load_graph=onnxruntime.RUNTIME.load_graph
)
