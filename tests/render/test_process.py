"""The renderer's process: it draws like the renderer, gives way to others, and its faults cost only pictures."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import EngineError, NotFiniteError
from re2pix_node.pipeline.pipeline import Pipeline
from re2pix_node.render import process as render_process
from re2pix_node.render.process import RenderProcess
from re2pix_node.render.renderer import PictureRenderer, PictureScene
from tests.support import faulty_bundle
from tests.support.processes import has_ended, starved, stop_for_good, wait_until_ended
from tests.support.ros_node import READY, environment
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest

THREADS = 2  # with one, OpenVINO 2025.4 swallows what a graph throws
REAL_CHILD, PROMPT_CHILD = render_process.CHILD, "tests.support.prompt_child"


@pytest.fixture(autouse=True, scope="module")
def prompt() -> Iterator[None]:
    """The process has the priority of any other: at idle priority it may wait for minutes on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render_process, "CHILD", PROMPT_CHILD)
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return faulty_bundle.make_faulty_bundle(tmp_path_factory.mktemp("bundles") / "faulty")


@pytest.fixture(scope="module")
def process(bundle: Bundle) -> Iterator[RenderProcess]:
    """For tests after which it still draws."""
    process = RenderProcess(bundle, THREADS)
    try:
        process.ready(READY)
        yield process
    finally:
        process.close()


def scene_of(bundle: Bundle, fault: tuple[int, int, int] | None = None, k: int = 2) -> PictureScene:
    pipeline = Pipeline(bundle, open_engine(bundle, "onnxruntime")[0], seed=3)
    observations = [pipeline.observe(faulty_bundle.picture(0.1 * i, fault), i * 10**8) for i in range(8)]
    return observations[-1].scene(k)


def test_it_draws_what_the_renderer_draws(bundle: Bundle, process: RenderProcess) -> None:
    renderer = PictureRenderer(bundle, THREADS)
    for k in (1, 3):
        scene = scene_of(bundle, k=k)
        picture = process.draw(scene)
        assert picture.shape == (128, 256, 3)
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, renderer.draw(scene))


def test_its_name_is_that_of_the_engine(bundle: Bundle) -> None:
    process = RenderProcess(bundle, THREADS)
    try:
        assert process.ready(READY) == PictureRenderer(bundle, THREADS).name
    finally:
        process.close()
    assert wait_until_ended(process.pid)


def test_it_gives_way_from_its_start_on(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_process, "CHILD", REAL_CHILD)
    process = RenderProcess(bundle, THREADS)
    try:
        deadline = time.monotonic() + READY
        while os.sched_getscheduler(process.pid) != os.SCHED_IDLE:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        # Before it loads what starts threads: they have the priority of the thread that starts them.
        mapped = Path(f"/proc/{process.pid}/maps").read_text()
        assert "openvino" not in mapped
        assert "onnxruntime" not in mapped
        # In our session: the kernel shares processors among sessions before it applies policies.
        assert os.getsid(process.pid) == os.getsid(0)
    finally:
        process.close()


@pytest.mark.long
@pytest.mark.alone  # at idle priority, beside two busy processes, it gets 0.6% of a processor
def test_every_thread_of_the_real_one_gives_way_and_it_draws(bundle: Bundle, idle: RenderProcess) -> None:
    threads = list(Path(f"/proc/{idle.pid}/task").iterdir())
    assert len(threads) > 1
    policies = {int((thread / "stat").read_text().rpartition(")")[2].split()[38]) for thread in threads}
    assert policies == {os.SCHED_IDLE}
    assert idle.draw(scene_of(bundle)).shape == (128, 256, 3)
    idle.kill()


def test_it_knows_neither_ros_nor_what_its_parent_runs(process: RenderProcess) -> None:
    mapped = Path(f"/proc/{process.pid}/maps").read_text()
    assert "numpy" in mapped
    assert "rclpy" not in mapped
    assert "rcutils" not in mapped


def test_ctrl_c_does_not_reach_it(bundle: Bundle, process: RenderProcess) -> None:
    os.kill(process.pid, signal.SIGINT)
    assert process.draw(scene_of(bundle)).shape == (128, 256, 3)


def test_ctrl_c_does_not_reach_it_while_it_starts(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    process = RenderProcess(bundle, THREADS)
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.02)
        process.ready(READY)
    finally:
        process.close()
    assert "Traceback" not in capfd.readouterr().err
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])  # of this thread


def test_it_runs_nothing_that_lies_in_the_working_directory(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("yaml", "numpy", "signal"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(99)")
    monkeypatch.chdir(tmp_path)
    process = RenderProcess(bundle, THREADS)
    try:
        assert process.ready(READY)
    finally:
        process.close()


@pytest.mark.parametrize("fault", [faulty_bundle.RENDERER_NAN, faulty_bundle.RENDERER_INF])
def test_a_picture_that_is_not_finite_costs_that_picture(
    bundle: Bundle, process: RenderProcess, fault: tuple[int, int, int]
) -> None:
    with pytest.raises(NotFiniteError, match="NaN or infinity"):
        process.draw(scene_of(bundle, fault))
    assert process.draw(scene_of(bundle)).shape == (128, 256, 3)


@contextmanager
def running(bundle: Bundle) -> Iterator[RenderProcess]:
    """For tests after which there is nothing left of it."""
    process = RenderProcess(bundle, THREADS)
    try:
        process.ready(READY)
        yield process
        assert wait_until_ended(process.pid), "it goes on"
    finally:
        process.close()


@pytest.fixture
def fresh(bundle: Bundle) -> Iterator[RenderProcess]:
    with running(bundle) as process:
        yield process


@pytest.fixture
def idle(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[RenderProcess]:
    """At its real priority."""
    monkeypatch.setattr(render_process, "CHILD", REAL_CHILD)
    with running(bundle) as process:
        yield process


def test_a_graph_that_throws_ends_it(bundle: Bundle, fresh: RenderProcess) -> None:
    with pytest.raises(EngineError, match=r"render failed: .*Conv"):
        fresh.draw(scene_of(bundle, faulty_bundle.RENDERER_THROWS))


def test_a_process_that_is_killed_is_told_as_such(bundle: Bundle, fresh: RenderProcess) -> None:
    os.kill(fresh.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="the renderer was ended by SIGKILL"):
        fresh.draw(scene_of(bundle))


def test_a_process_that_hangs_is_ended(bundle: Bundle, fresh: RenderProcess) -> None:
    scene = scene_of(bundle)
    os.kill(fresh.pid, signal.SIGSTOP)
    with pytest.raises(EngineError, match=r"the renderer was ended: it took more than 0\.5 s, .*\(it hangs\)"):
        fresh.draw(scene, timeout=0.5)


@contextmanager
def held_ten_times_a_second(process: RenderProcess, seconds: float) -> Iterator[None]:
    """For so long of each tenth, as by frames."""
    over = threading.Event()

    def hold() -> None:
        while not over.wait(0.1 - seconds):
            with process.held():
                time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.long
@pytest.mark.alone
def test_a_process_that_no_processor_has_time_for_does_not_hang(bundle: Bundle, idle: RenderProcess) -> None:
    scene = scene_of(bundle)
    with held_ten_times_a_second(idle, 0.06), ExitStack() as busy:
        busy.enter_context(starved(idle.pid))
        threading.Timer(2.0, busy.close).start()
        begun = time.monotonic()
        assert idle.draw(scene, timeout=0.5).shape == (128, 256, 3)
        assert time.monotonic() - begun > 1.0
    idle.kill()


NEVER_DONE = """
from concurrent.futures import ThreadPoolExecutor
from hashlib import pbkdf2_hmac
from re2pix_node.render.child import _give_way

def main():
    _give_way()
    with ThreadPoolExecutor(8) as threads:
        [threads.submit(pbkdf2_hmac, "sha256", b"", b"", 2**31 - 1) for _ in range(8)]
"""


@pytest.fixture
def never_done(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RenderProcess]:
    """One that works, on all its threads, and never answers."""
    (tmp_path / "never_done.py").write_text(NEVER_DONE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(render_process, "CHILD", "never_done")
    process = RenderProcess(bundle, THREADS)
    try:
        deadline = time.monotonic() + READY
        while len(list(Path(f"/proc/{process.pid}/task").iterdir())) < 9:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.close()


def test_a_process_that_hangs_at_work_is_ended_however_often_it_is_held(never_done: RenderProcess) -> None:
    watchdog = threading.Timer(READY, never_done.kill)
    watchdog.start()
    with held_ten_times_a_second(never_done, 0.07), pytest.raises(EngineError, match=r"it took more than 0\.3 s"):
        never_done.ready(timeout=0.3)
    watchdog.cancel()


def test_to_end_it_waits_for_no_processor(never_done: RenderProcess) -> None:
    with starved(never_done.pid, 12):  # each of its threads has to have its turn, once in some ten seconds
        time.sleep(1.0)
        begun = time.monotonic()
        never_done.close()
        assert time.monotonic() - begun < 5
    assert wait_until_ended(never_done.pid)


def test_it_does_nothing_while_it_is_held(bundle: Bundle, fresh: RenderProcess) -> None:
    scene, drawn = scene_of(bundle), list[object]()
    with fresh.held():
        thread = threading.Thread(target=lambda: drawn.append(fresh.draw(scene, timeout=1.0)))
        thread.start()
        thread.join(3.0)  # longer than it may hang
        assert not drawn
    thread.join(60)
    assert len(drawn) == 1
    fresh.kill()


def test_who_stops_it_keeps_it_stopped(bundle: Bundle, fresh: RenderProcess) -> None:
    stop_for_good(fresh.pid)
    with fresh.held():
        pass
    with pytest.raises(EngineError, match=r"it took more than 0\.5 s"):
        fresh.draw(scene_of(bundle), timeout=0.5)


def test_another_thread_can_end_it(bundle: Bundle, fresh: RenderProcess) -> None:
    scene = scene_of(bundle)
    os.kill(fresh.pid, signal.SIGSTOP)  # so that it is at work
    threading.Timer(0.3, fresh.kill).start()
    with pytest.raises(EngineError, match="the renderer was ended by SIGKILL"):
        fresh.draw(scene, timeout=60)


def test_a_bundle_that_was_replaced_is_not_drawn_with(bundle: Bundle, tmp_path: Path) -> None:
    copy = make_tiny_bundle(tmp_path / "another", tiny_manifest(render=True))
    process = RenderProcess(Bundle(copy.path, bundle.manifest), THREADS)
    try:
        with pytest.raises(EngineError, match="wrong sha256"):
            process.ready(READY)
    finally:
        process.close()


def test_where_it_may_not_be_idle_it_is_nice() -> None:
    script = (
        "import os\n"
        "def forbidden(*_): raise PermissionError\n"
        "os.sched_setscheduler = forbidden\n"
        "from re2pix_node.render.child import _give_way\n"
        "_give_way()\n"
        "print(os.nice(0))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "19\n"


def test_it_does_not_outlive_a_parent_that_is_killed(bundle: Bundle, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, time\n"
        "from re2pix_node.bundle.reader import read_bundle\n"
        "from re2pix_node.render import process as render_process\n"
        "from re2pix_node.render.process import RenderProcess\n"
        f"render_process.CHILD = {PROMPT_CHILD!r}\n"
        "process = RenderProcess(read_bundle(pathlib.Path(sys.argv[1])), 1)\n"
        "process.ready(60)\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    words = [sys.executable, "-c", script, str(bundle.path)]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert not has_ended(child)
        parent.kill()
    assert wait_until_ended(child)
