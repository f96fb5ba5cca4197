"""A renderer that goes wrong, in every way it can: it costs pictures and a diagnostic, and forecasts do not notice."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sensor_msgs.msg import Image

from re2pix_node.bundle import Bundle
from re2pix_node.messages import stamp_of
from tests.helpers import faulty_bundle
from tests.helpers.faulty_camera import FaultyCamera, filming
from tests.helpers.processes import children_of, has_ended, stop_for_good
from tests.ros_node import OK, READY, WARN, ros

__all__ = ["ros"]  # fixture

THREADS = 2  # with one, OpenVINO 2025.4 swallows what a graph throws


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return faulty_bundle.make_faulty_bundle(tmp_path_factory.mktemp("faulty") / "bundle")


class Drawing:
    """A camera and a node that draws what it sees."""

    def __init__(self, camera: FaultyCamera) -> None:
        self.camera = camera
        self.listener = camera.listener
        self.pictures = self.listener.listen(Image, "h3/image")
        self.draw_again()

    @property
    def child(self) -> int:
        """The process that draws: the only child of a child of ours."""
        (child,) = (child for node in children_of(os.getpid()) for child in children_of(node))
        return child

    def draw_again(self) -> None:
        wanted = len(self.pictures) + 3
        assert self.camera.send_until(lambda: len(self.pictures) >= wanted), self.listener.status

    def spoil(self, fault: tuple[int, int, int]) -> None:
        """Sends frames that cannot be drawn, until that is told."""
        before = self.listener.count("picture errors")
        assert self.camera.send_until(lambda: self.listener.count("picture errors") > before, fault=fault)

    def check(self) -> None:
        """Whatever was sent, every frame was taken, and every picture is of a forecast."""
        self.camera.check()
        self.listener.spin(2.0)
        told = self.listener.count
        assert told("errors") == told("engine restarts") == 0
        assert len(self.camera.forecasts) == told("forecasts published")
        assert {stamp_of(message.header) for message in self.pictures} <= self.camera.good
        assert len(self.pictures) == told("pictures drawn")
        assert [line for line in self.camera.log if "going on" in line] == []


@pytest.fixture
def drawing(faulty: Bundle, ros: None) -> Iterator[Drawing]:
    with filming(faulty.path, threads=THREADS, render_rate=60.0) as camera:
        yield Drawing(camera)


@pytest.mark.parametrize("fault", [faulty_bundle.RENDERER_NAN, faulty_bundle.RENDERER_INF])
def test_a_picture_that_is_not_finite_costs_itself(drawing: Drawing, fault: tuple[int, int, int]) -> None:
    child, listener = drawing.child, drawing.listener
    why = "render gave a picture that is not finite: it is left out"
    drawing.spoil(fault)
    assert listener.wait(lambda: why in listener.message, READY), listener.message
    assert "no picture: " in listener.message
    assert listener.level == WARN
    drawing.draw_again()
    assert drawing.child == child
    assert "openvino" in listener.status["renderer"] or "onnxruntime" in listener.status["renderer"]
    told = [line for line in drawing.camera.log if why in line]
    assert len(told) == 1  # of all the frames that were spoilt
    assert told[0].startswith("a picture is lost: ")
    drawing.check()


def test_a_renderer_that_throws_is_loaded_anew(drawing: Drawing) -> None:
    child, listener = drawing.child, drawing.listener
    drawing.spoil(faulty_bundle.RENDERER_THROWS)
    assert "render failed: " in listener.status["renderer"]
    assert "Conv" in listener.status["renderer"]  # in the runtime's own words
    assert listener.level == WARN
    assert has_ended(child)
    drawing.draw_again()
    assert drawing.child != child
    assert listener.wait(lambda: "failed" not in listener.status["renderer"], READY)
    assert drawing.camera.send_until(lambda: "no picture" not in listener.message)
    drawing.check()


def test_a_renderer_that_is_killed_is_started_anew(drawing: Drawing) -> None:
    child, listener = drawing.child, drawing.listener
    os.kill(child, signal.SIGKILL)
    assert drawing.camera.send_until(lambda: listener.status["renderer"] == "the renderer was ended by SIGKILL")
    assert listener.level == WARN
    drawing.draw_again()
    assert drawing.child != child
    assert listener.count("picture errors") == 1
    drawing.check()


def test_a_renderer_that_hangs_is_ended_and_forecasts_go_on(drawing: Drawing) -> None:
    child, listener = drawing.child, drawing.listener
    stop_for_good(child)
    # It is given up after 10 s. Until then there are no pictures, and forecasts as ever.
    before, begun = len(drawing.camera.forecasts), time.monotonic()
    assert drawing.camera.send_until(lambda: "it took more than 10 s" in listener.status["renderer"])
    assert len(drawing.camera.forecasts) - before > 3 * (time.monotonic() - begun)
    assert has_ended(child)
    drawing.draw_again()
    drawing.check()


def test_a_render_graph_that_is_gone_is_looked_for_ever_more_rarely(faulty: Bundle, ros: None, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(faulty.path, tmp_path / "copy"))
    with filming(copy, threads=THREADS, render_rate=60.0) as camera:
        drawing = Drawing(camera)
        listener = drawing.listener
        hidden = (copy / "render.onnx").rename(copy / "hidden")
        os.kill(drawing.child, signal.SIGKILL)
        begun = time.monotonic()
        assert camera.send_until(lambda: listener.count("picture errors") >= 4)
        assert time.monotonic() - begun > 1 + 2 + 4 - 1  # s of pauses, told once a second
        assert listener.status["renderer"] == f"{copy}: render.onnx is missing: copy the bundle again, whole"
        assert listener.level == WARN
        hidden.rename(copy / "render.onnx")
        drawing.draw_again()
        drawing.check()


def test_what_it_says_ends_with_it(drawing: Drawing) -> None:
    listener = drawing.listener
    drawing.spoil(faulty_bundle.RENDERER_THROWS)
    assert listener.change("deactivate")
    assert listener.wait(lambda: listener.status["renderer"] == "" and listener.level == OK, READY)
    assert listener.message == "inactive"
