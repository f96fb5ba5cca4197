"""The example for planners as a process, over real DDS, with forecasts of known content."""

import contextlib
import dataclasses
import re
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rclpy
from re2pix_msgs.msg import Forecast as ForecastMessage
from re2pix_msgs.msg import Intrusion
from sensor_msgs.msg import Image

from re2pix_node.bundle.reader import Bundle
from re2pix_node.examples.corridor_watch import MOST_WAITING, NUMBERS, Join
from re2pix_node.imaging.geometry import Region
from re2pix_node.pipeline.messages import (
    Circumstances,
    forecast_message,
    stamp_of,
)
from re2pix_node.pipeline.outputs import output_messages, output_names
from re2pix_node.pipeline.pipeline import Forecast
from re2pix_node.ros.message_types import ros_types
from tests.support.ros_node import RELIABLE, ROOT, Listener, start, start_module

READY = 60.0
SPACING = 180_000_000
CAR = 13
NAN = float("nan")
GOOD = (NAN, 0.5, 0.4, 0.3)

MASKS = ("segmentation", "confidence")


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


def made_up(tiny: Bundle, stamp: int, enters: int | None) -> Forecast:
    """A car stands beside the road, and is in the middle of the picture from horizon `enters` on."""
    spec = tiny.manifest
    labels = np.zeros((1, 4, spec.labels.height, spec.labels.width), np.uint8)
    labels[..., : spec.labels.width // 20] = CAR
    if enters is not None:
        labels[:, enters:, spec.labels.height // 2 :, spec.labels.width * 4 // 10 : spec.labels.width * 6 // 10] = CAR
    features = np.zeros((spec.features.height, spec.features.width, spec.features.channels), np.float32)
    return Forecast(
        stamp=stamp,
        context_stamps=(stamp,),
        spacing=SPACING,
        horizons=tuple(k * SPACING for k in range(4)),
        observed=features,
        features=np.stack([features] * 3)[None],
        labels=labels,
        confidence=np.full_like(labels, 204),
        region=Region(1280, 640, 0, 0, 1280, 640),
    )


def messages(tiny: Bundle, forecast: Forecast, skill: tuple[float, ...]) -> list[tuple[str, object]]:
    """All messages of a forecast, the forecast first, by the end of the topic's name."""
    names = output_names(tiny, MASKS)
    made = Circumstances("made up", "camera_front", skill=skill)
    first = forecast_message(ros_types(), tiny, forecast, names, made)
    return [("forecast", first), *output_messages(ros_types(), tiny, forecast, names, "camera_front")]


class Source:
    """Publishes like a re2pix_node and listens to the watch."""

    def __init__(self, tiny: Bundle, listener: Listener) -> None:
        self.tiny, self.listener = tiny, listener
        kinds = {"forecast": ForecastMessage, **dict.fromkeys(output_names(tiny, MASKS), Image)}
        self.publishers = {
            name: listener.node.create_publisher(kind, f"{listener.name}/output/{name}", RELIABLE)
            for name, kind in kinds.items()
        }
        self.intrusions: list[Intrusion] = []
        heard = f"{listener.node.get_namespace()}/corridor_watch/intrusion"
        self.subscription = listener.node.create_subscription(Intrusion, heard, self.intrusions.append, RELIABLE)

    def send(
        self,
        enters: int | None = 2,
        skill: tuple[float, ...] = GOOD,
        old: float = 0.0,
        order: Callable[[list], list] = lambda parts: parts,
    ) -> int:
        """One forecast with its masks; its stamp."""
        stamp = self.listener.node.get_clock().now().nanoseconds - round(old * 1e9)
        for name, message in order(messages(self.tiny, made_up(self.tiny, stamp, enters), skill)):
            self.publishers[name].publish(message)
        self.listener.spin(0.05)
        return stamp

    def connect(self) -> None:
        """Sends clear forecasts until the watch has subscribed to the horizons they have."""

        def connected() -> bool:
            heard = all(publisher.get_subscription_count() for publisher in self.publishers.values())
            return heard and self.subscription_matched()

        deadline = time.monotonic() + READY
        while not connected():
            assert time.monotonic() < deadline, "the watch did not subscribe to all horizons"
            self.send(enters=None)

    def subscription_matched(self) -> bool:
        return self.listener.node.count_publishers(self.subscription.topic_name) > 0

    def told_of(self, **sent) -> Intrusion:
        """Send such forecasts until the watch reports one: best effort does not guarantee a single one."""
        stamps = set()
        deadline = time.monotonic() + READY
        while time.monotonic() < deadline:
            stamps.add(self.send(**sent))
            for message in self.intrusions:
                if stamp_of(message.header) in stamps:
                    return message
        raise AssertionError("the watch said nothing")


@contextlib.contextmanager
def watch(tiny: Bundle, **parameters: object) -> Iterator[tuple[Source, object]]:
    listener = Listener(f"/watch_{time.monotonic_ns()}")
    namespace = listener.node.get_namespace()
    values = {"source": f"{listener.name}/output", **parameters}
    words = ["--ros-args", "-r", f"__ns:={namespace}"]
    for name, value in values.items():
        words += ["-p", f"{name}:={value}"]
    process = start_module("re2pix_node.examples.corridor_watch", *words)
    try:
        source = Source(tiny, listener)
        source.connect()
        yield source, process
    finally:
        process.kill()
        process.communicate()
        listener.node.destroy_node()


def test_the_watch_tells_what_may_be_believed_and_nothing_else(tiny: Bundle) -> None:
    with watch(tiny, max_age=30.0) as (source, process):
        told = source.told_of(enters=2)
        assert (told.class_id, told.class_name, told.horizon.sec, told.horizon.nanosec) == (CAR, "car", 0, 2 * SPACING)
        predicted = told.predicted_stamp.sec * 10**9 + told.predicted_stamp.nanosec
        assert predicted == stamp_of(told.header) + 2 * SPACING
        assert told.header.frame_id == "camera_front"
        assert told.confidence == pytest.approx(0.8)
        assert 0.2 < told.share < 1
        assert told.skill == pytest.approx(0.4)
        # What is there already is an observation, whatever the skill.
        assert source.told_of(enters=0, skill=(NAN, -1.0, -1.0, -1.0)).horizon.nanosec == 0
        # Where h2 cannot be believed, h3 is the earliest that can.
        for doubtful in (-0.01, NAN):
            assert source.told_of(enters=2, skill=(NAN, 0.5, doubtful, 0.0)).horizon.nanosec == 3 * SPACING
        silent = {
            "clear": {"enters": None},
            "skill below zero": {"skill": (NAN, -0.1, -0.1, -0.1)},
            "skill not measured": {"skill": (NAN, NAN, NAN, NAN)},
            "old": {"old": 31.0},
        }
        for why, sent in silent.items():
            stamps = {source.send(**sent) for _ in range(10)}
            # The next one is told of, so those before it have been judged.
            source.told_of(enters=1)
            assert not stamps & {stamp_of(message.header) for message in source.intrusions}, why
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        log = process.communicate()[1]
    assert "car expected in the corridor in 0.36 s (confidence 0.80," in log
    assert "car in the corridor (confidence 0.80," not in log  # it was expected there already: one line an entry
    assert re.search(r"a forecast is ignored: its frame is 3\d\.", log)  # sent when it is 31 s old
    assert "Traceback" not in log


@pytest.mark.parametrize("order", ["masks first", "mixed"])
def test_masks_may_come_before_the_forecast(tiny: Bundle, order: str) -> None:
    orders = {"masks first": lambda parts: parts[::-1], "mixed": lambda parts: parts[3:] + parts[:3]}
    with watch(tiny, max_age=0.0) as (source, _):
        assert source.told_of(enters=2, order=orders[order]).horizon.nanosec == 2 * SPACING
        # Without a limit on age, old ones are taken as well.
        assert source.told_of(enters=1, old=1000.0, order=orders[order]).horizon.nanosec == SPACING


@pytest.mark.parametrize(
    ("parameter", "expected"), [("max_age:=-1.0", "max_age out of range"), ("top:=1.5", "top out of range")]
)
def test_bad_parameters_are_one_line(parameter: str, expected: str) -> None:
    process = start("-m", "re2pix_node.examples.corridor_watch", "--ros-args", "-p", parameter)
    _, errors = process.communicate(timeout=READY)
    assert process.returncode == 2
    assert expected in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("name", [row[0] for row in NUMBERS])
def test_the_docs_know_every_parameter(name: str) -> None:
    table = (ROOT / "docs" / "planner.md").read_text().split("| parameter | default |")[1].split("\n\n")[0]
    documented: dict[str, float] = {}
    for line in table.splitlines()[3:]:  # the first rows are the head and the source
        names, defaults = line.split("|")[1:3]
        documented |= zip(re.findall(r"`(\w+)`", names), map(float, defaults.split(",")), strict=True)
    assert documented[name] == next(default for known, default, *_ in NUMBERS if known == name)


def test_parts_are_joined_in_any_order_and_nothing_piles_up(tiny: Bundle) -> None:
    join = Join()
    rng = np.random.default_rng(0)
    for stamp in range(1, 50):
        parts = messages(tiny, made_up(tiny, stamp, None), GOOD)
        rng.shuffle(parts)
        joined = [join.add(name, message) for name, message in parts]
        assert joined[:-1] == [None] * (len(parts) - 1)
        assert joined[-1] == dict(parts)
    assert not join._waiting
    for stamp in range(100, 200):  # a part of each is lost
        for name, message in messages(tiny, made_up(tiny, stamp, None), GOOD)[1:]:
            assert join.add(name, message) is None
    assert sorted(join._waiting) == list(range(200 - MOST_WAITING, 200))
    # The recording starts again: new messages are kept, old ones with later stamps are dropped.
    parts = messages(tiny, made_up(tiny, 5, None), GOOD)
    assert [join.add(name, message) for name, message in parts][-1] == dict(parts)


def test_masks_that_are_not_believed_are_not_waited_for(tiny: Bundle) -> None:
    join = Join()
    parts = dict(messages(tiny, made_up(tiny, 1, 2), (NAN, 0.5, -0.5, NAN)))
    wanted = ["forecast", "h0/segmentation", "h0/confidence", "h1/segmentation", "h1/confidence"]
    assert [join.add(name, parts[name]) for name in wanted][-1] is not None
    # Those of outputs that the node does not make are not waited for either.
    bare = messages(tiny, dataclasses.replace(made_up(tiny, 2, 2)), GOOD)[0][1]
    bare.outputs = ["h1/segmentation", "h3/features"]
    assert join.add("forecast", bare) == {"forecast": bare}
