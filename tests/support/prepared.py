"""Python processes that have imported what they need before they start: most of a node's start is imports.

A server imports it once and is forked for every process. Such a process is otherwise what `python -m MODULE` is: it has
an id, environment, signals, output and exit code of its own, and the test is its parent. The node as users start it is
in tests/harness, in tests/ros/test_launch.py and in the tests of exit codes.

The only threads of the server are those that the libraries of ROS and OpenVINO start when they are loaded. They wait,
and hold nothing that a process without them needs.
"""

import contextlib
import ctypes
import functools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

NODE = ("cv2", "onnxruntime", "openvino", "re2pix_node.ros.node", "re2pix_node.cli", "re2pix_node.harness.player")
AT_START = ("LD_LIBRARY_PATH", "PYTHONPATH")  # variables that are read when a process starts, and not later
PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h
MOST = 1 << 16  # bytes of a request


class PreparedProcess:
    """The part of subprocess.Popen that tests use."""

    def __init__(self, pid: int, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = os.pidfd_open(pid)
        self._texts: list[list[str]] = [[], []]
        self._readers = [
            threading.Thread(target=_read, args=[pipe, text], daemon=True)
            for pipe, text in zip((stdout, stderr), self._texts, strict=True)
        ]
        for reader in self._readers:
            reader.start()

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._ended)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Also wait for all others that hold its output."""
        for reader in self._readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        self.wait(timeout)
        stdout, stderr = ("".join(text) for text in self._texts)
        return stdout, stderr

    def send_signal(self, which: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, which)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start_prepared(
    module: str, *words: object, env: dict[str, str], imported: tuple[str, ...] = NODE
) -> PreparedProcess:
    """As `python -m MODULE WORDS`, with these modules already imported."""
    outputs = [os.pipe() for _ in range(2)]
    server = _server(imported, *(env.get(name, "") for name in AT_START))
    request = json.dumps([module, list(map(str, words)), env, str(Path.cwd())]).encode()
    with _adopting():
        socket.send_fds(server, [request], [write for _, write in outputs])
        pid = int(server.recv(MOST))
    for _, write in outputs:
        os.close(write)
    return PreparedProcess(pid, *(read for read, _ in outputs))


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Meanwhile orphans become children of this process, as the process becomes that the server forks for us."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)


@functools.cache
def _server(imported: tuple[str, ...], *at_start: str) -> socket.socket:
    """A server of this test process, which ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.prepared", str(theirs.fileno()), *imported],
            env={**os.environ, **dict(zip(AT_START, at_start, strict=True))},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).resolve().parents[2],
        )
    return ours


def _read(pipe: int, text: list[str]) -> None:
    with open(pipe, errors="replace") as stream:
        text.extend(stream)


def _serve(requests: socket.socket) -> tuple[str, list[str]]:
    """Fork for every request; return in the new process, with what it runs. The server itself ends here."""
    while True:
        data, outputs, _, _ = socket.recv_fds(requests, MOST, 2)
        if not data:
            os._exit(0)
        read, write = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                return _become(json.loads(data), outputs, [requests.detach(), read, write])
            os.write(write, str(pid).encode())
            os._exit(0)  # and so the test process inherits its child
        os.waitpid(between, 0)
        requests.send(os.read(read, 20))
        for descriptor in (read, write, *outputs):
            os.close(descriptor)


def _become(request: list, outputs: list[int], others: list[int]) -> tuple[str, list[str]]:
    module, words, env, folder = request
    for number, output in enumerate(outputs, 1):
        os.dup2(output, number)
    for descriptor in (*outputs, *others):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    return module, words


if __name__ == "__main__":
    for name in sys.argv[2:]:
        __import__(name)
    module, sys.argv[1:] = _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.modules.pop(module, None)  # it runs as __main__
    runpy.run_module(module, run_name="__main__", alter_sys=True)
