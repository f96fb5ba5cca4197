"""What a simulation writes: the right topics, the same bytes every time, readable by others."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

from re2pix_node.errors import BagError
from re2pix_node.imaging.decode import decode
from re2pix_node.recordings.reader import open_recording
from re2pix_node.simulator.reader import DriveFrame, read_drive
from re2pix_node.simulator.recorder import (
    EPOCH,
    TOPICS,
    RecordingPlan,
    compressible,
    frame_name,
    instance_of,
    quaternion,
    record,
)
from tests.simulator.conftest import FRAMES, PLAN, SEED


def payloads(path: Path) -> str:
    """A digest of every message: topic, time, bytes."""
    digest = hashlib.sha256()
    with Reader(path) as reader:
        for connection, stamp, raw in reader.messages():
            digest.update(f"{connection.topic} {stamp} {len(raw)}".encode())
            digest.update(raw)
    return digest.hexdigest()


def test_a_seed_gives_the_same_bytes_also_after_another_seed(
    simulated: Path, frames: list[DriveFrame], tmp_path: Path
) -> None:
    record(tmp_path / "other", SEED + 1, dataclasses.replace(PLAN, seconds=0.1))
    record(tmp_path / "again", SEED, PLAN)
    assert payloads(tmp_path / "again") == payloads(simulated)
    assert (next(read_drive(tmp_path / "other")).image != frames[0].image).any()


def test_every_topic_at_every_frame(simulated: Path) -> None:
    with Reader(simulated) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        types = {connection.topic: connection.msgtype for connection in reader.connections}
    assert counts == dict.fromkeys(TOPICS.values(), FRAMES)
    assert types["/tf"] == "tf2_msgs/msg/TFMessage"
    assert types["/camera/camera_info"] == "sensor_msgs/msg/CameraInfo"


def test_the_node_reads_its_camera(simulated: Path) -> None:
    with open_recording(simulated) as recording:
        topic = recording.camera("/camera/image/compressed")
        found = list(recording.frames(topic))
    assert recording.problem is None
    assert [frame.stamp for frame in found] == [EPOCH + round(i * 1e9 / 17) for i in range(FRAMES)]
    assert decode(found[0].message).shape == (224, 448, 3)


def test_mcap_alone_reads_it(simulated: Path) -> None:
    (file,) = simulated.glob("*.mcap")
    with file.open("rb") as stream:
        topics = {channel.topic for _, channel, _ in make_reader(stream).iter_messages()}
    assert topics == set(TOPICS.values())


def test_only_the_topics_asked_for(simulated: Path, tmp_path: Path) -> None:
    record(tmp_path / "few", SEED, RecordingPlan(seconds=0.1, size=(64, 32), topics=("camera", "segmentation")))
    (frame, _) = read_drive(tmp_path / "few", ("segmentation",))
    assert frame.segmentation.shape == (32, 64)
    assert frame.image.size == 0
    with pytest.raises(BagError, match="holds no /ground_truth/depth"):
        next(read_drive(tmp_path / "few", ("depth",)))


def test_frames_of_parts_have_names_of_their_own() -> None:
    for instance in (1, 255, 256 + 7, 512 + 255):
        assert instance_of(frame_name(instance)) == instance
    assert instance_of("camera") is None


def test_rounded_depth_stays_exact_enough() -> None:
    depth = np.array([0.5, 9.8765, 123.456, np.inf], np.float32)
    assert np.allclose(compressible(depth)[:3], depth[:3], rtol=1.3e-4)
    assert np.isinf(compressible(depth)[3])


def test_quaternions_turn_as_their_matrices() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        q = rng.normal(size=4) * [1, 1, 1, rng.choice([0.01, 1])]
        x, y, z, w = q / np.linalg.norm(q)
        matrix = np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ])  # fmt: skip
        assert abs(np.dot(quaternion(matrix), [x, y, z, w])) == pytest.approx(1, abs=1e-7)
