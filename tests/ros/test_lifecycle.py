"""The node's life cycle, over its services, as `ros2 lifecycle` and a manager use them."""

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from re2pix_msgs.msg import Forecast

from re2pix_node.bundle.reader import Bundle
from tests.support import hostile_graphs
from tests.support.ros_node import ERROR, OK, READY, Listener, environment, listener, ros, running_node

__all__ = ["listener", "ros"]  # fixtures

# From unconfigured to each state in which a signal may come.
WAYS = {
    "unconfigured": [],
    "inactive": ["configure"],
    "active": ["configure", "activate"],
    "finalized": ["shutdown"],
}


def test_every_transition_and_what_it_means_for_frames(tiny: Bundle, listener: Listener) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    publisher = listener.publisher()
    with running_node(listener.namespace, bundle=tiny.path, autostart=False):
        assert listener.state() == "unconfigured"
        assert not listener.change("activate")
        assert listener.change("configure")
        assert listener.state() == "inactive"
        assert publisher.get_subscription_count() == 0
        for start in (10**18, 11 * 10**17):
            assert listener.change("activate")
            listener.wait_active(publisher)
            assert listener.send_until(publisher, lambda: len(forecasts) >= 4, start=start)
            assert listener.change("deactivate")
            assert listener.wait(lambda: publisher.get_subscription_count() == 0, READY)
            forecasts.clear()
        assert listener.change("cleanup")
        assert listener.state() == "unconfigured"
        assert listener.change("configure")
        assert listener.change("activate")
        listener.wait_active(publisher)
        assert listener.send_until(publisher, lambda: len(forecasts) >= 4, start=12 * 10**17)
        assert listener.change("shutdown")
        assert listener.state() == "finalized"


def test_it_starts_by_itself_unless_told_otherwise(tiny: Bundle, listener: Listener) -> None:
    with running_node(listener.namespace, bundle=tiny.path):
        assert listener.wait(lambda: listener.status.get("state") == "active", READY)
        assert listener.level != ERROR


def test_a_failed_configure_says_why_and_can_be_mended(tiny: Bundle, listener: Listener, tmp_path: Path) -> None:
    with running_node(listener.namespace, bundle=tmp_path / "later"):
        assert listener.wait(lambda: "there is no such folder" in listener.message, READY)
        assert listener.level == ERROR
        assert listener.state() == "unconfigured"
        assert not listener.change("configure")
        shutil.copytree(tiny.path, tmp_path / "later")
        assert listener.change("configure")
        assert listener.wait(lambda: listener.level == OK, READY)


def test_what_is_read_at_configuring_cannot_change_later(tiny: Bundle, listener: Listener) -> None:
    with running_node(listener.namespace, bundle=tiny.path, autostart=False):
        assert listener.set("threads", 1).successful
        assert listener.change("configure")
        refused = listener.set("threads", 2)
        assert not refused.successful
        assert "unconfigured" in refused.reason
        assert listener.change("cleanup")
        assert listener.set("threads", 2).successful


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("state", WAYS)
def test_signals_end_it_in_every_state(tiny: Bundle, listener: Listener, state: str, which: signal.Signals) -> None:
    with running_node(listener.namespace, bundle=tiny.path, autostart=False) as process:
        for transition in WAYS[state]:
            assert listener.change(transition)
        assert listener.state() == state
        end(process, which)


def test_a_terminal_that_closes_ends_it(tiny: Bundle, listener: Listener) -> None:
    with running_node(listener.namespace, bundle=tiny.path) as process:
        assert listener.wait(lambda: listener.status.get("state") == "active", READY)
        end(process, signal.SIGHUP)


def test_in_the_background_sigint_ends_it_and_under_nohup_a_closed_terminal_does_not(
    tiny: Bundle, listener: Listener
) -> None:
    words = ["--ros-args", "-r", f"__ns:={listener.namespace}", "-p", f"bundle:={tiny.path}"]
    ignored = (signal.SIGINT, signal.SIGHUP)
    process = subprocess.Popen(
        [sys.executable, "-m", "re2pix_node.ros.node", *words],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: [signal.signal(each, signal.SIG_IGN) for each in ignored],
    )
    try:
        assert listener.wait(lambda: listener.status.get("state") == "active", READY)
        process.send_signal(signal.SIGHUP)
        listener.status.clear()
        listener.spin(2.0)
        assert listener.status["state"] == "active"
        end(process, signal.SIGINT)
    finally:
        process.kill()


def test_signals_that_come_again_and_again_end_it_once(tiny: Bundle, listener: Listener) -> None:
    with running_node(listener.namespace, bundle=tiny.path) as process:
        assert listener.wait(lambda: listener.status.get("state") == "active", READY)
        for which in 20 * (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(which)
            time.sleep(0.002)
        end(process, signal.SIGINT)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_while_a_bundle_loads(
    tiny: Bundle, listener: Listener, tmp_path: Path, which: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RE2PIX_TRIAL")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = hostile_graphs.endless((tiny.path / "encode.onnx").read_bytes())
    endless = hostile_graphs.with_graph(tiny.path, tmp_path / "endless", encode=data)
    with running_node(listener.namespace, bundle=endless, autostart=False) as process:
        client = listener.node.create_client(ChangeState, f"{listener.name}/change_state")
        assert client.wait_for_service(READY)
        assert listener.wait(lambda: listener.status.get("state") == "unconfigured", READY)
        client.call_async(ChangeState.Request(transition=Transition(label="configure")))
        assert listener.wait(lambda: listener.status.get("state") == "configuring", READY)
        end(process, which)
    deadline = time.monotonic() + 20  # a child that has just been started ends when it looks for its parent
    while time.monotonic() < deadline and trials_of(tmp_path):
        time.sleep(0.1)
    assert not trials_of(tmp_path)


def trials_of(folder: Path) -> list[str]:
    """The processes that try a bundle for a node with this folder in its environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"trial_child" in (process / "cmdline").read_bytes():
                found += [process.name] * (str(folder).encode() in (process / "environ").read_bytes())
    return found


def end(process, which: signal.Signals) -> None:
    asked = time.monotonic()
    process.send_signal(which)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert time.monotonic() - asked < 8  # 0.2 s; two seconds on a busy machine
    assert "Traceback" not in said
    assert "terminate called" not in said
