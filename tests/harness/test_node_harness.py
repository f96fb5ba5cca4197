import signal
import subprocess

from re2pix_node.bundle.reader import Bundle
from re2pix_node.common import subprocess_python
from tests.support.processes import wait_until_ended

KILLED = """
import os, signal
from re2pix_node.harness.node_harness import running_node
with running_node("harness", {"bundle": sys.argv[1], "autostart": False}) as rig:
    print(rig.process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_node_ends_with_a_harness_that_is_killed(tiny: Bundle) -> None:
    command = subprocess_python.code(KILLED, str(tiny.path))
    done = subprocess.run(command, env=subprocess_python.environment(), stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert wait_until_ended(int(done.stdout))
