"""A pipeline that outlives its engine. The GPU, and TensorRT on it, are stand-ins in host memory."""

from pathlib import Path

import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.session import EngineSession
from re2pix_node.pipeline.events import EngineFailed, EngineRejected, EngineServes, Event, SkillMeasured
from re2pix_node.pipeline.live import LivePipeline
from re2pix_node.pipeline.pipeline import Observation
from tests.engines.conftest import gpu, host_tensorrt, library
from tests.engines.tensorrt.test_building import wait_for
from tests.support.drive import frame

__all__ = ["gpu", "host_tensorrt", "library"]  # fixtures

STEP = 10**8


class Camera:
    """Frames 0.1 s apart, one after the other."""

    def __init__(self, session: EngineSession) -> None:
        self.events: list[Event] = []
        self.live = LivePipeline(session, None, 10.0, self.events.append)
        self.stamp = 0

    def next(self) -> Observation:
        self.stamp += STEP
        observation = self.live.observe(frame(self.stamp / 1e9, 256, 128), self.stamp, seed=0)
        self.live.judge(observation)
        return observation

    def told(self) -> list[Event]:
        """Events but for skill, since the last call."""
        told = [event for event in self.events if not isinstance(event, SkillMeasured)]
        self.events.clear()
        return told


def camera_with_candidate(tiny: Bundle) -> Camera:
    """One whose pipeline has a context, and a better engine that is ready."""
    session = EngineSession(tiny, background=True)
    session.start()
    camera = Camera(session)
    assert [camera.next().forecast is not None for _ in range(7)][-1]
    wait_for(lambda: session.candidate() is not None)
    camera.told()
    return camera


def test_a_better_engine_goes_to_work_when_it_has_served_a_frame(host_tensorrt: Path, tiny: Bundle) -> None:
    camera = camera_with_candidate(tiny)
    before = camera.live.session.engine
    observation = camera.next()
    after = camera.live.session.engine
    assert (before.name, after.name) == ("openvino", "tensorrt")
    assert observation.forecast is not None  # of what the engine before it has encoded
    assert camera.told() == [EngineServes(f"tensorrt {after.precision} ({after.version})", first_choice=True)]


@pytest.mark.parametrize("fails", ["cuMemcpyHtoDAsync_v2", "cuGraphLaunch"])
def test_a_better_engine_that_fails_at_its_first_frame_does_not_cost_the_one_at_work(
    host_tensorrt: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    camera = camera_with_candidate(tiny)
    session = camera.live.session
    before = session.engine
    monkeypatch.setenv("HOST_CUDA_FAILS", fails)
    observation = camera.next()
    monkeypatch.delenv("HOST_CUDA_FAILS")
    assert session.engine is before
    assert observation.forecast is not None
    assert min(observation.forecast.context_stamps) < camera.stamp - STEP  # nothing was forgotten
    (told,) = camera.told()
    assert isinstance(told, EngineRejected)
    assert fails in told.fault
    assert any(fails in fault for fault in session.passed_over)
    again = camera.next()
    assert again.forecast is not None
    assert session.candidate() is None
    assert camera.told() == []


def test_after_a_failure_the_next_engine_begins_anew(tiny: Bundle) -> None:
    session = EngineSession(tiny, "onnxruntime")
    session.start()
    camera = Camera(session)
    assert [camera.next().forecast is not None for _ in range(7)][-1]
    broken, at = session.engine, camera.stamp
    camera.live.recover("onnxruntime fp32: it broke")
    assert session.engine is not broken
    assert session.first_choice
    title = f"onnxruntime fp32 ({session.engine.version})"
    assert camera.told() == [EngineFailed("onnxruntime fp32: it broke"), EngineServes(title, first_choice=True)]
    forecasts = [observation.forecast for observation in (camera.next() for _ in range(7))]
    assert forecasts[0] is None
    assert forecasts[-1] is not None
    assert min(forecasts[-1].context_stamps) > at
    assert np.isnan(camera.live.skill()).all()
