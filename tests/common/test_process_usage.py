"""The usage of processes, measured on processes whose usage is known."""

import subprocess
import sys

import pytest

from re2pix_node.common.process_usage import usage_of

PROGRAM = """
import sys, threading, time
held = bytearray(64 << 20)
files = [open("/dev/null") for _ in range(20)]
for _ in range(5):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
end = time.process_time() + 0.3
while time.process_time() < end: pass
print("ready", flush=True)
sys.stdin.read()
"""


def test_memory_threads_handles_and_processor_time_are_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        usage = usage_of(process.pid)
    assert 64 << 20 < usage.held < usage.resident < 200 << 20
    assert usage.threads == 6
    assert 23 <= usage.handles <= 25  # and the standard three
    assert 0.25 <= usage.processor < 5


def test_a_process_that_is_gone_is_an_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(OSError):
        usage_of(process.pid)
