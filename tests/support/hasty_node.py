"""The node of prompt_node.py that gives up a renderer after 2 s instead of 10, and pauses for 0.2 s instead of 1."""

import functools
import sys

from re2pix_node.render import process
from re2pix_node.ros import render_worker
from re2pix_node.ros.node import main
from tests.support.prompt_node import CHILD

LIMIT, PAUSE = 2.0, 0.2

if __name__ == "__main__":
    process.CHILD = CHILD
    process.RenderProcess.draw = functools.partialmethod(process.RenderProcess.draw, timeout=LIMIT)
    render_worker.PAUSE = PAUSE
    sys.exit(main())
