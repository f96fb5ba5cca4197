"""Engines that fail at run time, and bundles that disappear: the next engine takes over; a final loss is reported."""

import contextlib
import shutil
from pathlib import Path

import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.session import EngineSession
from re2pix_node.errors import EngineError
from tests.support import faulty_bundle
from tests.support.faulty_camera import FaultyCamera, context_of, filming
from tests.support.ros_node import ERROR, OK, READY, WARN, ros

__all__ = ["ros"]  # fixture

THREADS = 2  # with one, OpenVINO 2025.4 swallows what a graph throws


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return faulty_bundle.make_faulty_bundle(tmp_path_factory.mktemp("faulty") / "bundle")


@pytest.fixture
def copy(faulty: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(faulty.path, tmp_path / "copy"))


def ladder(bundle: Bundle) -> list[str]:
    """The engines that this machine has for a bundle, in their order."""
    session = EngineSession(bundle, threads=THREADS)
    names = [session.start()]
    with contextlib.suppress(EngineError):
        while True:
            again = session.replace("it broke")
            if (again.name, again.precision) != (names[-1].name, names[-1].precision):
                names.append(again)
    return [f"{engine.name} {engine.precision}" for engine in names]


def break_engine(camera: FaultyCamera, fault: tuple[int, int, int]) -> int:
    """Makes the engine throw once more; the stamp from which on frames are good again."""
    camera.spoil("engine restarts", fault=fault)
    return camera.stamp


@pytest.mark.parametrize("fault", [faulty_bundle.ENCODER_THROWS, faulty_bundle.FORECASTER_THROWS])
def test_an_engine_that_throws_is_loaded_anew_then_passed_over_until_none_is_left(
    faulty: Bundle, ros: None, fault: tuple[int, int, int]
) -> None:
    engines = ladder(faulty)
    assert engines[-1] == "onnxruntime fp32"
    if engines[0].startswith("tensorrt"):
        pytest.skip("TensorRT is built in the background here: which engine is at work when cannot be told")
    with filming(faulty.path, threads=THREADS) as camera:
        listener = camera.listener
        assert camera.forecasts[-1].engine == engines[0]
        for i, engine in enumerate(engines):
            for fresh in (True, False):
                since = break_engine(camera, fault)
                what = "encode" if fault is faulty_bundle.ENCODER_THROWS else "forecast"
                assert f"{engine}: {what} failed: " in listener.status["last error"]
                assert "Conv" in listener.status["last error"]  # in the runtime's own words
                if not fresh and i == len(engines) - 1:
                    break
                before = len(camera.forecasts)
                assert camera.forecast_again()
                now = engine if fresh else engines[i + 1]
                assert {message.engine for message in camera.forecasts[before:]} == {now}
                # Frames encoded by the engine before are not in their contexts.
                assert min(min(context_of(message)) for message in camera.forecasts[before:]) >= since
                assert camera.send_until(lambda now=now: listener.status["engine"].startswith(now + " "))
            if engine != engines[-1]:
                passed_over = f"{engine}: {what} failed: "
                assert camera.send_until(lambda told=passed_over: told in listener.status["engines passed over"])
                assert listener.level == WARN
        camera.check()
        count = len(camera.forecasts)
        told = [
            line.removeprefix("continuing with ").rsplit(" ", 1)[0] for line in camera.log if "continuing with" in line
        ]
        assert told == [engines[0], *(name for name in engines[1:] for _ in range(2))]
        # No engine is left: no more forecasts, with the reason, but the process stays for another try.
        assert listener.wait(lambda: listener.level == ERROR and listener.status["state"] == "unconfigured", READY)
        assert listener.message.startswith(f"no engine is left to continue with: {engines[-1]}: {what} failed: ")
        assert "Conv" in listener.message
        assert listener.state() == "unconfigured"
        assert camera.publisher.get_subscription_count() == 0
        assert listener.change("configure")
        assert listener.change("activate")
        listener.wait_active(camera.publisher)
        assert camera.forecast_again()
        assert camera.forecasts[count].engine == engines[0]
        assert listener.wait(lambda: listener.level != ERROR, READY)
        camera.check()


def test_a_bundle_that_disappears_matters_only_when_it_is_read_again(copy: Path, ros: None) -> None:
    with filming(copy, precision="fp32", threads=THREADS) as camera:
        listener = camera.listener
        hidden = copy.rename(copy.with_name("hidden"))
        assert camera.forecast_again(10)
        assert listener.wait(lambda: listener.level in (OK, WARN), READY)
        break_engine(camera, faulty_bundle.ENCODER_THROWS)
        missing = f"{copy}: encode.onnx is missing: copy the bundle again, whole"
        assert listener.wait(lambda: listener.message == missing, READY), listener.message
        assert listener.level == ERROR
        assert listener.state() == "unconfigured"
        assert not listener.change("configure")
        assert listener.wait(lambda: f"{copy}: there is no such folder" in listener.message, READY)
        hidden.rename(copy)
        assert listener.change("configure")
        assert listener.change("activate")
        listener.wait_active(camera.publisher)
        assert camera.forecast_again()
        camera.check()


def test_a_bundle_that_is_replaced_is_not_taken_for_the_one_that_was_configured(copy: Path, ros: None) -> None:
    with filming(copy, precision="fp32", threads=THREADS) as camera:
        (copy / "encode.onnx").write_bytes(b"another")
        break_engine(camera, faulty_bundle.ENCODER_THROWS)
        listener = camera.listener
        assert listener.wait(lambda: f"{copy / 'encode.onnx'}: wrong sha256" in listener.message, READY)
        assert listener.level == ERROR
        camera.check()
