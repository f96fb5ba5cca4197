"""How a child process ends with its parent. Linux."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_the_parent(by: int = signal.SIGKILL, parent: int = 0) -> None:
    """Have the kernel send this process a signal when its parent ends in any way, even while this process is stopped.

    `parent` is the expected process: if it has ended before this call, the signal is sent at once. It is the thread of
    the parent that counts: start such a child from a thread that lasts.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
    if parent and os.getppid() != parent:
        os.kill(os.getpid(), by)
