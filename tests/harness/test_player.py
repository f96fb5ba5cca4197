"""The player as a process, received over real DDS."""

import itertools
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from re2pix_node.cli import main
from re2pix_node.harness.player import AHEAD, made_ahead, scheduled
from re2pix_node.imaging.decode import decode
from re2pix_node.pipeline.messages import stamp_of
from re2pix_node.recordings.camera_frames import CameraFrame
from re2pix_node.recordings.reader import open_recording
from tests.support.bag_files import CAMERA, SQLITE3, images, write_rosbag2
from tests.support.prepared import PreparedProcess
from tests.support.ros_node import READY, Listener, listener, ros, start_module

__all__ = ["listener", "ros"]  # fixtures

FRAMES = 90  # of the drive, at 30 Hz
STEP = 1e9 / 30


def play(recording: Path, listener: Listener, *words: object) -> PreparedProcess:
    return start_module("re2pix_node.cli", "play", recording, "--to", f"{listener.namespace}/camera", *words)


def hear(listener: Listener, kind: type) -> list:
    """As a camera's subscribers do: best effort."""
    heard: list = []
    qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
    listener.node.create_subscription(kind, f"{listener.namespace}/camera", heard.append, qos)
    return heard


def finish(listener: Listener, player: PreparedProcess) -> dict:
    assert listener.wait(lambda: player.poll() is not None, READY)
    listener.spin(0.2)
    said, error = player.communicate()
    assert (player.returncode, error) == (0, "")
    return json.loads(said)


@pytest.fixture
def recorded(drive_bag: Path) -> list:
    with open_recording(drive_bag) as recording:
        return list(recording.frames(recording.camera()))


def test_a_drive_is_played_as_it_was_recorded(drive_bag: Path, recorded: list, listener: Listener) -> None:
    heard = hear(listener, CompressedImage)
    stamps = [frame.stamp for frame in recorded]
    assert finish(listener, play(drive_bag, listener, "--wait"))["frames"] == FRAMES
    assert len(heard) >= FRAMES / 2  # best effort, on a machine that may be busy
    by_stamp = dict(zip(stamps, recorded, strict=True))
    assert [stamp_of(message.header) for message in heard] == sorted(stamp_of(message.header) for message in heard)
    for message in heard:
        original = by_stamp[stamp_of(message.header)].message
        assert (message.format, message.header.frame_id) == ("jpeg", "camera")
        assert bytes(message.data) == bytes(original.data)


def test_frames_come_at_the_pace_of_the_recording(drive_bag: Path, listener: Listener, tmp_path: Path) -> None:
    words = ("--restamp", "--rate", 2, "--stamps", tmp_path / "stamps", "--frames", 60)
    before = time.time_ns()
    said = finish(listener, play(drive_bag, listener, *words))
    sent = [int(line) for line in (tmp_path / "stamps").read_text().split()]
    assert (said["frames"], len(sent)) == (60, 60)
    assert before < sent[0] < sent[-1] < time.time_ns()
    # As late as the player says, which counts what is more than 10 ms.
    late = (sent[-1] - sent[0] - 59 * STEP / 2) / 1e9
    assert said["late_s"] - 0.02 <= late <= said["late_s"] + 0.02
    # Not in bursts, nor in pairs; a busy machine may wake the player late for some frames.
    assert np.median(np.diff(sent)) == pytest.approx(STEP / 2, rel=0.3)


def test_a_loop_starts_over(drive_bag: Path, recorded: list, listener: Listener, tmp_path: Path) -> None:
    words = ("--loop", "--frames", 200, "--rate", 10, "--stamps", tmp_path / "stamps")
    assert finish(listener, play(drive_bag, listener, *words))["frames"] == 200
    sent = [int(line) for line in (tmp_path / "stamps").read_text().split()]
    assert sent == list(itertools.islice(itertools.cycle(frame.stamp for frame in recorded), 200))


def test_frames_are_converted_and_resized(drive_bag: Path, recorded: list, listener: Listener) -> None:
    heard = hear(listener, Image)
    finish(listener, play(drive_bag, listener, "--wait", "--as", "bgr8", "--size", "1280x720", "--frames", 20))
    assert heard
    originals = {frame.stamp: decode(frame.message) for frame in recorded}
    for message in heard:
        assert (message.encoding, message.width, message.height, message.step) == ("bgr8", 1280, 720, 3840)
        small = decode(message)[::2, ::2].astype(int)
        assert np.abs(small - originals[stamp_of(message.header)]).mean() < 5


def test_raw_images_of_a_sqlite_bag_are_played(listener: Listener, tmp_path: Path) -> None:
    write_rosbag2(tmp_path / "old", images(6), SQLITE3)
    heard = hear(listener, Image)
    words = ("--wait", "--rate", 20, "--topic", CAMERA, "--loop", "--frames", 60)
    assert finish(listener, play(tmp_path / "old", listener, *words))["frames"] == 60
    assert heard
    for message in heard:
        number = message.header.stamp.sec - 1_700_000_000
        assert bytes(message.data) == images(number + 1)[number][2].data.tobytes()
        assert (message.encoding, message.header.frame_id) == ("rgb8", f"camera_{number}")


def test_nothing_is_sent_before_somebody_listens(drive_bag: Path, listener: Listener, tmp_path: Path) -> None:
    stamps = tmp_path / "stamps"
    player = play(drive_bag, listener, "--wait", "--loop", "--stamps", stamps)
    assert listener.wait(lambda: "re2pix_play" in listener.node.get_node_names(), READY)
    listener.spin(1.0)
    assert stamps.read_text() == ""
    heard = hear(listener, CompressedImage)
    assert listener.wait(lambda: len(heard) > 3, READY)
    player.kill()
    player.communicate()


def test_the_clock_runs_with_the_frames(drive_bag: Path, recorded: list, listener: Listener) -> None:
    clock: list[int] = []
    listener.node.create_subscription(
        Clock, "/clock", lambda m: clock.append(m.clock.sec * 10**9 + m.clock.nanosec), 100
    )
    heard = hear(listener, CompressedImage)
    finish(listener, play(drive_bag, listener, "--wait", "--clock"))
    assert heard
    assert clock == sorted(clock)
    assert clock[-1] == recorded[-1].received
    assert len(clock) > FRAMES
    # It runs between frames as well.
    assert set(clock) - {frame.received for frame in recorded}


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_loop(drive_bag: Path, listener: Listener, tmp_path: Path, which: signal.Signals) -> None:
    stamps = tmp_path / "stamps"
    player = play(drive_bag, listener, "--loop", "--stamps", stamps)
    assert listener.wait(lambda: stamps.exists() and len(stamps.read_text()) > 100, READY)
    player.send_signal(which)
    said = finish(listener, player)
    # The signal may come between the two.
    assert 0 <= len(stamps.read_text().split()) - said["frames"] <= 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rate", "0"], "--rate must be above 0, is 0"),
        (["--clock", "--restamp"], "choose one of them"),
        (["--size", "5"], "the size '5' is not understood"),
        (["--topic", "/other"], "holds no camera topic /other"),
        (["--stamps", "/nowhere/stamps"], "/nowhere/stamps: cannot be written"),
    ],
)
def test_what_cannot_be_played_is_said(
    drive_bag: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["play", str(drive_bag), *words]) == 2
    assert expected in capsys.readouterr().err


def test_no_more_is_made_ahead_than_needed() -> None:
    # Whatever the length of the recording: memory does not grow with it.
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(1000):
            made.append(i)
            yield i

    for taken, item in enumerate(made_ahead(items())):
        assert item == taken
        assert len(made) <= taken + 2 + AHEAD
        if taken == 100:
            break
    else:
        pytest.fail("not all items came")


def test_errors_while_making_ahead_come_out() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    ahead = made_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="no more"):
        next(ahead)


def test_laps_follow_one_another_at_the_mean_step() -> None:
    frames = [CameraFrame(0, 1000 + 100 * i, "", {}) for i in range(4)]
    schedule = scheduled(frames, loop=True)  # type: ignore[arg-type]
    assert [since for since, _ in itertools.islice(schedule, 9)] == [0, 100, 200, 300, 400, 500, 600, 700, 800]
    assert [since for since, _ in scheduled(frames, loop=False)] == [0, 100, 200, 300]  # type: ignore[arg-type]
    assert list(scheduled([], loop=True)) == []  # type: ignore[arg-type]
