"""A renderer that goes wrong, in every way it can: it costs pictures and a diagnostic, and forecasts do not notice."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sensor_msgs.msg import Image

from re2pix_node.bundle.reader import Bundle
from re2pix_node.pipeline.messages import stamp_of
from tests.support import faulty_bundle
from tests.support.faulty_camera import FaultyCamera, filming
from tests.support.processes import children_of, has_ended, stop_for_good, wait_until_ended
from tests.support.ros_node import HASTY, OK, PROMPT, READY, WARN, ros

__all__ = ["ros"]  # fixture

HORIZONS = (1, 10, 20)  # 0.2, 2 and 4 s ahead: the last is in time on a busy machine
THREADS = 2  # with one, OpenVINO 2025.4 swallows what a graph throws


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return faulty_bundle.make_faulty_bundle(tmp_path_factory.mktemp("faulty") / "bundle", HORIZONS)


class Drawing:
    """A camera and a node that draws what it sees."""

    def __init__(self, camera: FaultyCamera) -> None:
        self.camera = camera
        camera.pause = 0.08  # pictures take their time; frames that nothing is drawn of only cost processor time
        self.listener = camera.listener
        self.pictures = self.listener.listen(Image, "h3/image")
        self.draw_again()
        assert self.listener.wait(lambda: self.listener.count("pictures drawn") > 0, READY)
        self.engine = self.listener.status["renderer"]

    @property
    def child(self) -> int:
        """The process that draws: the only child of a child of ours."""
        (child,) = (child for node in children_of(os.getpid()) for child in children_of(node) if not has_ended(child))
        return child

    def draw_again(self) -> None:
        wanted = len(self.pictures) + 3
        assert self.camera.send_until(lambda: len(self.pictures) >= wanted), self.listener.status

    def wait_for_warning(self, why: str, **frame: Any) -> None:
        """Sends frames until diagnostics warn of it: their `renderer` may say it for less than a second."""
        told = self.camera.send_until(lambda: f"no picture: {why}" in self.listener.message, **frame)
        assert told, self.listener.message
        assert self.listener.level == WARN

    def check(self) -> None:
        """Whatever was sent, every frame was taken, and every picture is of a forecast."""
        self.camera.check()
        told = self.listener.count
        assert self.listener.wait(lambda: told("forecasts published") == len(self.camera.forecasts), READY)
        assert self.listener.wait(lambda: told("pictures drawn") == len(self.pictures), READY)
        assert told("errors") == told("engine restarts") == 0
        assert {stamp_of(message.header) for message in self.pictures} <= self.camera.good
        assert [line for line in self.camera.log if "continuing with" in line] == []


@pytest.fixture
def drawing(faulty: Bundle, ros: None) -> Iterator[Drawing]:
    with filming(faulty.path, module=PROMPT, threads=THREADS, render_rate=60.0) as camera:
        yield Drawing(camera)


@pytest.mark.parametrize("fault", [faulty_bundle.RENDERER_NAN, faulty_bundle.RENDERER_INF])
def test_a_picture_that_is_not_finite_costs_itself(drawing: Drawing, fault: tuple[int, int, int]) -> None:
    child, listener = drawing.child, drawing.listener
    why = "render gave a picture with NaN or infinity: it is skipped"
    drawing.wait_for_warning(f"{drawing.engine}: {why}", fault=fault)
    drawing.draw_again()
    assert drawing.child == child
    assert listener.status["renderer"] == drawing.engine
    told = [line for line in drawing.camera.log if why in line]
    assert len(told) == 1  # of all the frames that were spoilt
    assert told[0].startswith("a picture is lost: ")
    drawing.check()


def test_a_picture_that_is_not_finite_costs_no_other_of_its_forecast(ros: None, tmp_path: Path) -> None:
    bundle = faulty_bundle.make_bundle_of_bad_first_pictures(tmp_path / "bundle", (10, 15, 20))
    with filming(bundle.path, module=PROMPT, threads=THREADS, render_rate=60.0) as camera:
        first = camera.listener.listen(Image, "h1/image")
        drawing = Drawing(camera)
        assert camera.send_until(lambda: camera.listener.count("picture errors") >= 3)
        drawing.draw_again()
        assert first == []
        drawing.check()


def test_a_renderer_that_throws_is_loaded_anew(drawing: Drawing) -> None:
    child, listener = drawing.child, drawing.listener
    drawing.wait_for_warning(f"{drawing.engine}: render failed: ", fault=faulty_bundle.RENDERER_THROWS)
    assert "Conv" in listener.message  # in the runtime's own words
    assert wait_until_ended(child)
    drawing.draw_again()
    assert drawing.child != child
    assert listener.wait(lambda: "failed" not in listener.status["renderer"], READY)
    assert drawing.camera.send_until(lambda: "no picture" not in listener.message)
    drawing.check()


def test_a_renderer_that_is_killed_is_started_anew(drawing: Drawing) -> None:
    child, listener = drawing.child, drawing.listener
    os.kill(child, signal.SIGKILL)
    drawing.wait_for_warning("the renderer was ended by SIGKILL")
    drawing.draw_again()
    assert drawing.child != child
    assert listener.count("picture errors") == 1
    drawing.check()


def test_a_renderer_that_hangs_is_ended_and_forecasts_go_on(faulty: Bundle, ros: None) -> None:
    with filming(faulty.path, module=HASTY, threads=THREADS, render_rate=60.0) as camera:
        drawing = Drawing(camera)
        child = drawing.child
        stop_for_good(child)
        # It is given up after 2 s. Until then there are no pictures, and forecasts as ever.
        before, begun = len(camera.forecasts), time.monotonic()
        drawing.wait_for_warning("the renderer was ended: it took more than 2 s")
        assert len(camera.forecasts) - before > 3 * (time.monotonic() - begun)
        assert wait_until_ended(child)
        drawing.draw_again()
        drawing.check()


def test_a_render_graph_that_is_gone_is_looked_for_until_it_is_there(faulty: Bundle, ros: None, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(faulty.path, tmp_path / "copy"))
    with filming(copy, module=HASTY, threads=THREADS, render_rate=60.0) as camera:
        drawing = Drawing(camera)
        listener = drawing.listener
        hidden = (copy / "render.onnx").rename(copy / "hidden")
        os.kill(drawing.child, signal.SIGKILL)
        assert camera.send_until(lambda: listener.count("picture errors") >= 3)
        drawing.wait_for_warning(f"{copy}: render.onnx is missing: copy the bundle again, whole")
        hidden.rename(copy / "render.onnx")
        drawing.draw_again()
        drawing.check()


def test_what_it_says_ends_with_it(drawing: Drawing) -> None:
    listener = drawing.listener
    drawing.wait_for_warning("", fault=faulty_bundle.RENDERER_THROWS)
    assert listener.change("deactivate")
    assert listener.wait(lambda: listener.status["renderer"] == "" and listener.level == OK, READY)
    assert listener.message == "inactive"
    assert listener.change("activate")
    before = listener.count("forecasts published")
    assert drawing.camera.send_until(lambda: listener.count("forecasts published") > before)
    assert "no picture" not in listener.message
