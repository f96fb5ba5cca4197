"""The limit on the address space of this process (`ulimit -v`), under which libraries abort instead of raising."""

import resource

from re2pix_node.errors import Re2pixError

# Python with ROS, OpenCV and an engine reserves 3 GB and uses a tenth of that. With less than this, not even the
# imports succeed, and C++ libraries end the process.
LEAST = 1 << 30


def require_address_space() -> None:
    """Re2pixError if the limit is so low that a library would end the process."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST:
        raise Re2pixError(
            f"the address space of this process is limited to {limit >> 20} MiB: raise that to 4096 MiB "
            "(ulimit -v 4194304); most of it is reserved and never used"
        )
