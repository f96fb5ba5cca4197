"""The node with a renderer of prompt_child.py: python -m tests.support.prompt_node --ros-args ..."""

import sys

from re2pix_node.render import process
from re2pix_node.ros.node import main

CHILD = "tests.support.prompt_child"

if __name__ == "__main__":
    process.CHILD = CHILD
    sys.exit(main())
