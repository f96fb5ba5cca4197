"""Times frames at a camera's rate without ROS: the baseline of bench-node."""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.imaging.decode import decode
from re2pix_node.pipeline.pipeline import Pipeline
from re2pix_node.recordings.camera_frames import CameraFrames, Form
from re2pix_node.recordings.reader import open_recording


@dataclass(frozen=True)
class DirectRun:
    """Which frames to run, at which rate, and through which model."""

    drive: Path
    topic: str
    form: Form
    rate: float  # Hz
    frames: int
    bundle: Path
    engine: str
    precision: str
    threads: int
    fit: str | None


def measure(run: DirectRun) -> list[float]:
    """Seconds from message to forecast, for each frame that led to a forecast."""
    bundle = read_bundle(run.bundle)
    engine, _ = open_engine(bundle, run.engine, run.precision, run.threads)
    pipeline = Pipeline(bundle, engine, run.fit)
    times = []
    with open_recording(run.drive) as recording:
        frames = CameraFrames(recording, recording.camera(run.topic), run.form)
        start = time.monotonic()
        for i, frame in enumerate(itertools.islice(frames, run.frames)):
            message = SimpleNamespace(**frame.fields)
            time.sleep(max(0.0, start + i / run.rate - time.monotonic()))
            begun = time.perf_counter()
            observation = pipeline.observe(decode(message), round((1 + i / run.rate) * NANOSECONDS))
            if observation.forecast is not None:
                times.append(time.perf_counter() - begun)
    return times
