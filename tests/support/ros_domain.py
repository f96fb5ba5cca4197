"""A ROS domain for one test process: nodes of other test processes on this machine are not heard in it."""

import os
import socket

DOMAINS = 100  # from 101 on, ports of Fast DDS overlap those that Linux gives to clients

_claimed = socket.socket(socket.AF_UNIX)  # held open: the name is free again when this process ends


def claim_domain() -> int:
    """Return a domain id that no other test process has claimed. This one keeps it until it ends."""
    for i in range(DOMAINS):
        domain = 1 + (os.getpid() + i) % DOMAINS
        try:
            _claimed.bind(f"\0re2pix_node tests, ROS domain {domain}")  # no file: a name that only the kernel knows
        except OSError:
            continue
        return domain
    raise RuntimeError(f"all {DOMAINS} ROS domains are taken: other tests run on this machine, wait for their end")
