"""The processes of a training under `accelerate launch`, and how they end."""

import os
import sys
from typing import NoReturn

import torch
from accelerate import Accelerator


def join() -> Accelerator:
    # Without a GPU, accelerate must know that, or several processes would not connect. The loop has its own precision.
    return Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")


def leave(code: int) -> NoReturn:
    """End one of several processes without Python's own shutdown, which gloo's threads can abort.

    These threads may still hold tensors of the last exchange, and a thread that releases one during the shutdown fails
    (pytorch's pull request 179291). Destroying the process group does not end them once DDP has used it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
