"""The processes that `accelerate launch` spreads a training over, and how each of them ends."""

import os
import sys
from typing import NoReturn

import torch
from accelerate import Accelerator


def join() -> Accelerator:
    # Without a GPU it must be told, or several processes would not find one another. The loop has its own precision.
    return Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")


def leave(code: int) -> NoReturn:
    """Ends one of several processes past Python's own end, which gloo's threads can abort.

    They may still hold tensors of the last exchange, and who lets go of one while Python ends is thrown out of it
    (pytorch's pull request 179291). Destroying the process group does not end them once DDP has used it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
