"""The real node, while an engine for its GPU is being built. The GPU and its TensorRT are stand-ins in host memory."""

import os
from pathlib import Path

import pytest
from re2pix_msgs.msg import Forecast

from re2pix_node.bundle.reader import Bundle
from re2pix_node.pipeline.messages import stamp_of
from tests.support.host_gpu import FOLDER
from tests.support.ros_node import READY, Listener, listener, ros, running_node

__all__ = ["listener", "ros"]  # fixtures


@pytest.fixture
def go(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a GPU, for processes; builds end when this file is there."""
    for name, folder in (("LD_LIBRARY_PATH", library.parent), ("PYTHONPATH", FOLDER / "host_tensorrt")):
        monkeypatch.setenv(name, os.pathsep.join(filter(None, [str(folder), os.environ.get(name)])))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOST_TENSORRT", "wait")
    monkeypatch.setenv("HOST_TENSORRT_GO", str(tmp_path / "go"))
    return tmp_path / "go"


def test_the_cpu_serves_until_the_switch_between_two_frames(tiny: Bundle, listener: Listener, go: Path) -> None:
    forecasts = listener.listen(Forecast, "forecast")
    publisher = listener.publisher()
    with running_node(listener.namespace, bundle=tiny.path):
        listener.wait_active(publisher)
        assert listener.send_until(publisher, lambda: len(forecasts) >= 3)
        assert listener.wait(lambda: "tiny encode fp16: Timing" in listener.status.get("engine being built", ""), READY)
        assert "% after 0." in listener.status["engine being built"]
        assert listener.status["engine"].startswith("openvino")
        listener.spin(1)  # until the last frame sent has its forecast
        begin = stamp_of(forecasts[-1].header) + 10**8
        go.touch()

        def switched() -> bool:
            return sum(message.engine == "tensorrt fp16" for message in forecasts) >= 3

        assert listener.send_until(publisher, switched, start=begin, pause=0.5)
        assert listener.wait(lambda: listener.status["engine"].startswith("tensorrt fp16 (10.3.0)"), READY)
        assert "the first choice failed" not in listener.message
        assert listener.status["engine being built"] == ""
    stamps = [stamp_of(message.header) for message in forecasts]
    first = next(i for i, message in enumerate(forecasts) if message.engine == "tensorrt fp16")
    # What the CPU encoded is context of the first forecast on the GPU: a new context would take 0.6 s.
    assert all(message.engine == "tensorrt fp16" for message in forecasts[first:])
    assert stamps[first] - stamps[first - 1] <= 4 * 10**8


def test_an_engine_that_was_asked_for_is_waited_for_in_sight(tiny: Bundle, listener: Listener, go: Path) -> None:
    with running_node(listener.namespace, bundle=tiny.path, engine="tensorrt"):
        assert listener.wait(lambda: "tensorrt fp16: tiny encode fp16" in listener.message, READY), listener.message
        assert listener.status["state"] == "configuring"
        go.touch()
        assert listener.wait(lambda: listener.status["engine"].startswith("tensorrt fp16"), READY)
        assert listener.wait(lambda: listener.status["state"] == "active", READY)
