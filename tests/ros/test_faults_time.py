"""Wrong stamps and clocks: contexts never span them, and forecasts come back without help."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from re2pix_node.bundle.reader import Bundle
from re2pix_node.pipeline.messages import stamp_of, time_message
from re2pix_node.ros.message_types import ros_types
from tests.support.faulty_camera import STEP, FaultyCamera, context_of, filming, ns
from tests.support.ros_node import ERROR, READY, RELIABLE, WARN, image, ros

__all__ = ["ros"]  # fixture

SECOND = 10**9
CPU = {"engine": "onnxruntime", "threads": 1}


@pytest.fixture(scope="module")
def camera(tiny: Bundle, ros: None) -> Iterator[FaultyCamera]:
    with filming(tiny.path, **CPU) as camera:
        yield camera


def straddles(context: list[int], moment: int) -> bool:
    return context[0] < moment <= context[-1]


def logged(camera: FaultyCamera, text: str) -> bool:
    return camera.listener.wait(lambda: any(text in line for line in camera.log), READY)


def test_frames_without_a_stamp(camera: FaultyCamera) -> None:
    def unstamped(picture: np.ndarray, stamp: int) -> Image:
        return image(picture, 0)

    camera.spoil("frames unstamped", make=unstamped)
    assert camera.forecast_again()
    expected = "frames arrive without a stamp: nothing can be forecast from them, the camera driver must stamp"
    assert camera.send_until(lambda: camera.listener.message == expected, make=unstamped, good=False)
    assert camera.listener.level == ERROR
    assert camera.forecast_again()
    camera.check()
    assert camera.send_until(lambda: camera.listener.message != expected)


def test_a_stamp_that_repeats(camera: FaultyCamera) -> None:
    assert camera.forecast_again()
    last = camera.stamp - STEP
    camera.spoil("frames repeated", make=lambda picture, stamp: image(picture, last))
    assert logged(camera, f"frame stamped {last / 1e9:.3f} s has the stamp of the one before: it is ignored")
    assert camera.forecast_again()
    stamps = [stamp_of(message.header) for message in camera.forecasts]
    assert len(stamps) == len(set(stamps))
    camera.check()


@pytest.mark.parametrize(
    ("by", "told"),
    [
        (-30 * SECOND, "jumps back in time: earlier frames are forgotten"),
        (5 * SECOND, "comes after a gap too long to forecast across: earlier frames are forgotten"),
    ],
)
def test_stamps_that_jump(camera: FaultyCamera, by: int, told: str) -> None:
    camera.stamp += 1000 * SECOND  # beyond everything so far
    assert camera.forecast_again()
    before = set(camera.good)
    end = camera.stamp
    camera.stamp += by
    assert camera.forecast_again()
    assert logged(camera, told)
    for message in camera.forecasts:
        context = set(context_of(message))
        assert context <= before or context.isdisjoint(before)
    camera.stamp = max(end, camera.stamp)
    camera.check()


def test_a_short_jump_back_does_not_mix_what_was_seen_before_and_after(camera: FaultyCamera) -> None:
    camera.stamp += 1000 * SECOND
    assert camera.forecast_again(6)
    end = camera.stamp
    start = camera.stamp = end - 3 * STEP
    # When it has counted that one a second time, the node is back there.
    camera.spoil("frames repeated", make=lambda picture, stamp: image(picture, start))
    camera.stamp = start + STEP
    assert camera.forecast_again(6)
    contexts = [context_of(message) for message in camera.forecasts]
    # Frames before `start` would fit, and are of another pass.
    assert all(context[0] >= start for context in contexts if context[-1] >= end)
    camera.check()


def test_one_stamp_from_the_far_future(camera: FaultyCamera) -> None:
    assert camera.forecast_again()
    here = camera.stamp
    camera.stamp += 100_000 * SECOND
    camera.send()
    camera.stamp = here
    assert camera.forecast_again()
    assert all(stamp_of(message.header) < here + 1000 * SECOND for message in camera.forecasts)
    camera.check()


def test_a_bag_that_loops(camera: FaultyCamera) -> None:
    # The first lap begins earlier: it leaves frames that would fit before those of the later laps.
    start = camera.stamp + 1002 * SECOND
    camera.stamp = start - 2 * SECOND
    assert camera.send_until(lambda: camera.stamp > start + 2 * SECOND)
    for lap in range(4):
        before = len(camera.forecasts)
        camera.stamp = start
        assert camera.forecast_again(4), lap
        contexts = [context_of(message) for message in camera.forecasts[before:]]
        assert min(map(min, contexts)) >= start
        # Rising, but that one forecast of the lap before may have been under way.
        assert sum(np.diff([context[-1] for context in contexts]) <= 0) <= 1
    camera.check()


def test_max_age_takes_effect_at_once(camera: FaultyCamera) -> None:
    camera.stamp = time.time_ns() - 3600 * SECOND
    assert camera.forecast_again()
    assert camera.listener.set("max_age", 10.0).successful
    since, listener = camera.stamp, camera.listener
    before = listener.count("frames too old")
    assert camera.send_until(
        lambda: (
            listener.count("frames too old") > before
            and listener.level == WARN
            and "or too old): see the counts" in listener.message
        ),
        good=False,
    )
    listener.wait_settled()
    assert camera.listener.set("max_age", 0.0).successful
    assert camera.forecast_again()
    assert all(stamp_of(message.header) < since + 10**13 for message in camera.forecasts[-3:])
    camera.check()


def test_max_rate_takes_effect_at_once(camera: FaultyCamera) -> None:
    listener = camera.listener
    assert listener.set("max_rate", 5.0).successful
    before = listener.count("frames over max_rate")
    assert camera.send_until(lambda: listener.count("frames over max_rate") > before + 10)
    assert camera.forecast_again(6)

    def every_second() -> bool:
        taken = {stamp for message in camera.forecasts[-3:] for stamp in context_of(message)}
        return len({stamp // STEP % 2 for stamp in taken}) == 1

    assert camera.send_until(every_second)
    assert listener.set("max_rate", 0.0).successful
    assert camera.send_until(lambda: np.diff([stamp_of(m.header) for m in camera.forecasts[-4:]]).max() == STEP)
    camera.check()


def test_a_clock_that_resets_and_one_that_stops(tiny: Bundle, ros: None) -> None:
    node = rclpy.create_node("clock")
    clock = node.create_publisher(Clock, "/clock", RELIABLE)

    def on_time(picture: np.ndarray, stamp: int) -> Image:
        clock.publish(Clock(clock=time_message(ros_types(), stamp)))
        return image(picture, stamp)

    # By the wall clock these frames would be far too old.
    parameters = {**CPU, "use_sim_time": True, "max_age": 3.0}
    with filming(tiny.path, make=on_time, start=1000 * SECOND, **parameters) as camera:
        listener = camera.listener
        assert ns(camera.forecasts[-1].age) < SECOND
        for reset in (500, 20, 10):
            camera.stamp, before = reset * SECOND, len(camera.forecasts)
            assert camera.forecast_again()
            assert all(not straddles(context_of(message), reset * SECOND) for message in camera.forecasts[before:])
            assert ns(camera.forecasts[-1].age) < SECOND
        assert logged(camera, "jumps back in time: earlier frames are forgotten")
        # The clock stops while the camera goes on.
        camera.make = image
        assert camera.send_until(lambda: "in the future of this node's clock: do the clocks agree?" in listener.message)
        assert listener.level == WARN
        assert camera.forecast_again()
        # Both stop: diagnostics go on.
        assert listener.wait(lambda: listener.message.startswith("no frames arrive"), READY)
        camera.make = on_time
        camera.stamp += 100 * SECOND
        assert camera.forecast_again()
        assert camera.send_until(lambda: not listener.message.startswith("no frames arrive"))
        assert listener.count("frames too old") == 0
        camera.check()
    node.destroy_node()
