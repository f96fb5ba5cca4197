"""Signals that ask the node to end shut ROS down, as rclpy's own handlers do, but without their race.

rclpy triggers guard conditions from a thread of its own while the executor may be destroying them: a process that ends
on a busy machine then sometimes ends by SIGSEGV.
"""

import signal
import socket
import threading

import rclpy

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def shut_down_on_signals() -> None:
    """From now on, until the process ends, a signal shuts ROS down. Call it in the main thread, after `rclpy.init`.

    Nothing is interrupted: a callback ends by itself, or when it looks whether ROS is up.
    """
    # Python runs handlers in the main thread, which may be waiting inside rclpy. The bytes arrive at once.
    arrived, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
    for number in ENDING:
        # nohup ignores SIGHUP, and means it. Shells ignore SIGINT for background jobs, which must still end by it.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    threading.Thread(target=_shut_down, args=(arrived,), name="signals", daemon=True).start()


def _shut_down(arrived: socket.socket) -> None:
    while True:  # also after the first: a signal that finds nobody who reads would be told as an error
        if arrived.recv(1)[0] in ENDING:
            rclpy.try_shutdown()


def ignore_signals() -> None:
    """The process is ending by itself: Python restores the default handlers on its way, and they would kill it."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
