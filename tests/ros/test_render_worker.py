"""Pictures from the real node, over DDS: which are drawn, their content, and the processes that remain."""

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from re2pix_msgs.msg import Forecast
from sensor_msgs.msg import Image

from re2pix_node.bundle.manifest import TimeSpec
from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.pipeline.messages import ns_of, stamp_of
from re2pix_node.pipeline.pipeline import Pipeline
from re2pix_node.render.renderer import PictureRenderer
from tests.support import drive
from tests.support.processes import children_of, starved, stop_for_good, wait_until_ended
from tests.support.ros_node import PROMPT, READY, Listener, image, listener, ros, running_node
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest

__all__ = ["listener", "ros"]  # fixtures

START = 10**18  # stamp of the first frame
THREADS = 2


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose pictures are in time on a busy machine: of 0.2, 2 and 4 s ahead."""
    time = TimeSpec(4, 0.18, 0.12, 0.24, 0.02, (1, 10, 20))
    manifest = dataclasses.replace(tiny_manifest(render=True), time=time)
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "patient", manifest)


def pixels_of(message: Image) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


class Sent:
    """Frames go on from where they were: stamps of a test never jump back."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.publisher = listener.publisher()
        self.frames = 0

    def until(self, enough: Callable[[], bool], pause: float = 0.05) -> bool:
        deadline = time.monotonic() + READY
        while not enough() and time.monotonic() < deadline:
            self.publisher.publish(image(picture(self.frames), START + self.frames * 10**8))
            self.frames += 1
            self.listener.spin(pause)
        return enough()

    def more(self, messages: list, count: int = 3) -> bool:
        wanted = len(messages) + count
        assert self.until(lambda: len(messages) >= wanted), self.listener.status
        return True


def wait_until_all_are_counted(listener: Listener, *pictures: list) -> None:
    """Until as many pictures have come as the node says that it has drawn."""
    assert listener.wait(lambda: listener.count("pictures drawn") == sum(map(len, pictures)) > 0, READY)


@cache
def picture(i: int) -> np.ndarray:
    return drive.frame(i / 10, 256, 128)


def test_a_picture_is_what_the_renderer_draws_of_that_forecast(patient: Bundle, listener: Listener) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    pictures = {k: listener.listen(Image, f"h{k}/image") for k in (2, 3)}
    sent = Sent(listener)
    with running_node(
        listener.namespace,
        module=PROMPT,
        bundle=patient.path,
        engine="onnxruntime",
        threads=THREADS,
        seed=7,
        render_rate=60.0,
    ):
        listener.wait_active(sent.publisher)
        assert sent.until(lambda: all(len(messages) >= 3 for messages in pictures.values())), listener.message
        wait_until_all_are_counted(listener, *pictures.values())
        told = dict(listener.status)
    renderer = PictureRenderer(patient, THREADS)
    assert told["renderer"] == renderer.name
    assert float(told["render p50 (ms)"]) > 0
    made = {stamp_of(message.header): message for message in forecasts}
    for k, messages in pictures.items():
        message = messages[-1]
        assert (message.encoding, message.width, message.height, message.step) == ("rgb8", 256, 128, 768)
        assert message.header.frame_id == "camera"
        # As with masks: the stamp is that of the forecast, which tells the moment.
        forecast = made[stamp_of(message.header)]
        pipeline = Pipeline(patient, open_engine(patient, "onnxruntime", threads=THREADS)[0], seed=7)
        for stamp in map(ns_of, forecast.context_stamps):
            again = pipeline.observe(picture((stamp - START) // 10**8), stamp)
        assert again.forecast is not None
        np.testing.assert_array_equal(pixels_of(message), renderer.draw(again.scene(k)))
    assert not np.array_equal(pixels_of(pictures[2][-1]), pixels_of(pictures[3][-1]))


def test_the_rate_turns_pictures_on_and_off(patient: Bundle, listener: Listener) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    pictures = listener.listen(Image, "h3/image")
    sent = Sent(listener)
    with running_node(listener.namespace, module=PROMPT, bundle=patient.path, threads=THREADS) as node:
        listener.wait_active(sent.publisher)
        assert sent.more(forecasts, 10)
        assert pictures == []
        assert children_of(node.pid) == []
        assert listener.set("render_rate", 2.0).successful
        assert sent.more(pictures, 4)
        (child,) = children_of(node.pid)
        stamps = [stamp_of(message.header) for message in pictures]
        assert min(np.diff(stamps)) >= 0.45e9
        assert listener.set("render_rate", 0.0).successful
        listener.spin(4.5)  # one may be under way, and is of use for 4 s
        before = len(pictures)
        assert sent.more(forecasts, 20)
        assert len(pictures) == before
        assert listener.set("render_rate", 60.0).successful
        assert sent.more(pictures)
        assert children_of(node.pid) == [child]
        assert sent.until(lambda: stamp_of(pictures[-1].header) - stamp_of(pictures[-2].header) < 0.45e9)


def test_nothing_is_drawn_that_nobody_subscribes_to(patient: Bundle, listener: Listener) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    sent = Sent(listener)
    with running_node(
        listener.namespace, module=PROMPT, bundle=patient.path, horizons="[0, 2]", render_rate=60.0
    ) as node:
        listener.wait_active(sent.publisher)
        assert sent.more(forecasts, 10)
        assert children_of(node.pid) == []
        names = {name for name, _ in listener.node.get_topic_names_and_types()}
        drawn = f"{listener.name}/output/h{{}}/image"
        assert [k for k in range(4) if drawn.format(k) in names] == [2]
        pictures = listener.listen(Image, "h2/image")
        assert sent.more(pictures)
        wait_until_all_are_counted(listener, pictures)
        assert listener.count("picture errors") == 0


def test_a_bundle_that_cannot_draw_is_told_of_once(tiny: Bundle, listener: Listener) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    log = listener.listen_log()
    sent = Sent(listener)
    why = "tiny cannot draw pictures: it has no render graph"
    with running_node(listener.namespace, bundle=tiny.path, render_rate=5.0) as node:
        listener.wait_active(sent.publisher)
        assert sent.more(forecasts, 5)
        assert listener.set("render_rate", 6.0).successful
        assert sent.more(forecasts, 5)
        assert listener.wait(lambda: listener.status.get("renderer") == why, READY)
        assert [line for line in log if "render" in line] == [f"render_rate has no effect: {why}"]
        assert children_of(node.pid) == []


def test_a_picture_that_comes_too_late_is_not_published(patient: Bundle, listener: Listener) -> None:
    pictures = {k: listener.listen(Image, f"h{k}/image") for k in (1, 3)}
    sent = Sent(listener)
    with running_node(
        listener.namespace, module=PROMPT, bundle=patient.path, threads=THREADS, render_rate=60.0
    ) as node:
        listener.wait_active(sent.publisher)
        assert sent.more(pictures[3])
        (child,) = children_of(node.pid)
        assert sent.until(lambda: "pictures late" in listener.status)
        stop_for_good(child)
        listener.spin(1.2)
        late, overtaken = listener.count("pictures late"), listener.count("pictures overtaken")
        published = len(pictures[3])
        deadline = time.monotonic() + 5.0  # more than the 4 s that the last horizon is ahead, less than its patience
        assert sent.until(lambda: time.monotonic() > deadline)
        assert len(pictures[3]) == published
        os.kill(child, signal.SIGCONT)
        # The one that was being drawn, of 4 s ahead; and that of 0.2 s ahead, which waited for nothing.
        assert listener.wait(lambda: listener.count("pictures late") > late, READY)
        assert listener.count("pictures overtaken") > overtaken
        assert sent.more(pictures[3])
        assert children_of(node.pid) == [child]
        wait_until_all_are_counted(listener, *pictures.values())
        assert listener.count("picture errors") == 0


@pytest.mark.long
@pytest.mark.alone  # with the real process, at idle priority
def test_the_process_ends_when_the_node_is_deactivated_however_busy_the_machine_is(
    patient: Bundle, listener: Listener
) -> None:
    pictures = listener.listen(Image, "h3/image")
    sent = Sent(listener)
    with running_node(listener.namespace, bundle=patient.path, threads=THREADS, render_rate=60.0) as node:
        for end in ("deactivate", "shutdown"):
            listener.wait_active(sent.publisher)
            assert sent.more(pictures)
            (child,) = children_of(node.pid)
            assert os.sched_getscheduler(child) == os.SCHED_IDLE
            with starved(child):
                assert listener.change(end)
            assert wait_until_ended(child)
            assert listener.wait(lambda: children_of(node.pid) == [], READY)
            if end == "deactivate":
                assert listener.wait(lambda: listener.status["renderer"] == "", READY)
                assert listener.change("activate")


@pytest.mark.parametrize(
    ("which", "drawing"),
    [
        (signal.SIGINT, "loads"),
        (signal.SIGINT, "draws"),
        (signal.SIGINT, "hangs"),
        (signal.SIGTERM, "draws"),
        (signal.SIGKILL, "hangs"),
    ],
)
def test_no_process_is_left_when_the_node_ends(
    patient: Bundle, listener: Listener, monkeypatch: pytest.MonkeyPatch, which: signal.Signals, drawing: str
) -> None:
    if which == signal.SIGKILL:
        # A node that is killed leaves its shared memory for good: let it have 0.5 MB for the 70 MB of our profile.
        for library in ("FASTRTPS", "FASTDDS"):
            monkeypatch.delenv(f"{library}_DEFAULT_PROFILES_FILE", raising=False)
    pictures = listener.listen(Image, "h3/image")
    sent = Sent(listener)
    with running_node(
        listener.namespace, module=PROMPT, bundle=patient.path, threads=THREADS, render_rate=60.0
    ) as node:
        listener.wait_active(sent.publisher)
        if drawing == "loads":
            assert sent.until(lambda: bool(children_of(node.pid)), 0.01)
        else:
            assert sent.more(pictures)
        (child,) = children_of(node.pid)
        if drawing == "hangs":
            stop_for_good(child)
            before = sent.frames
            assert sent.until(lambda: sent.frames > before + 20)
        asked = time.monotonic()
        node.send_signal(which)
        node.wait(20)
        took = time.monotonic() - asked
        _, said = node.communicate(timeout=20)  # which also waits for those who hold its standard output
        assert took < 8, said  # it waits for no picture, which may take 10 s to be given up
        assert node.returncode == (-signal.SIGKILL if which == signal.SIGKILL else 0), said
        assert "Traceback" not in said
        assert wait_until_ended(child)
