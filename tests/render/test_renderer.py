"""Pictures of forecasts: determined by the seed, from a proved graph, and never with NaN."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.registry import runtimes
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import BundleError, EngineError, NotFiniteError
from re2pix_node.pipeline.pipeline import Pipeline
from re2pix_node.render import renderer as rendering
from re2pix_node.render.renderer import PictureRenderer, PictureScene, attempts
from tests.support import faulty_bundle
from tests.support.drive import frame
from tests.support.hostile_graphs import unknown_operator
from tests.support.tiny_bundle import render_graph, tiny_manifest

OPENVINO, ONNXRUNTIME = [runtime for runtime in runtimes() if runtime.load_graph]
HERE = [f"{runtime.name} {precision}" for runtime in (OPENVINO, ONNXRUNTIME) for precision in runtime.precisions()]


@pytest.fixture(scope="module")
def scene(drawing: Bundle) -> PictureScene:
    return scene_of(drawing, [frame(0.1 * i, 320, 160) for i in range(8)])


def scene_of(bundle: Bundle, frames: list[np.ndarray], k: int = 2) -> PictureScene:
    pipeline = Pipeline(bundle, open_engine(bundle, "onnxruntime")[0], seed=3)
    observations = [pipeline.observe(picture, i * 10**8) for i, picture in enumerate(frames)]
    return observations[-1].scene(k)


def with_graph(bundle: Bundle, path: Path, data: bytes) -> Bundle:
    """The bundle with another render graph under its proof, whose hash is right."""
    path.mkdir()
    for file in bundle.path.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    (path / "render.onnx").write_bytes(data)
    render = dataclasses.replace(bundle.manifest.render, sha256=hashlib.sha256(data).hexdigest())
    return Bundle(path, dataclasses.replace(bundle.manifest, render=render))


def test_the_picture_is_what_the_graph_says_rounded_and_within_bounds(drawing: Bundle, scene: PictureScene) -> None:
    bright = dataclasses.replace(scene, frame=np.maximum(scene.frame, 240), horizon=3)
    renderer = PictureRenderer(drawing, threads=1)
    inputs = {
        "features": bright.features[None],
        "frame": bright.frame[None],
        "horizon": np.array([2], np.float32),
        "noise": np.random.default_rng((3, 7 * 10**8, 1)).standard_normal((1, 256), np.float32),
        **{f"context_{i}": features for i, features in enumerate(bright.context)},
    }
    (said,) = onnx.reference.ReferenceEvaluator(render_graph(drawing.manifest)).run(["image"], inputs)
    assert said.max() > 256
    picture = renderer.draw(bright)
    assert (picture.dtype, picture.shape) == (np.uint8, (128, 256, 3))
    np.testing.assert_allclose(picture, np.clip(said[0], 0, 255), atol=0.6)
    assert renderer.name in HERE


def test_the_seed_decides_the_picture(drawing: Bundle, scene: PictureScene) -> None:
    first, second = (PictureRenderer(drawing, threads=1) for _ in range(2))
    picture = first.draw(scene)
    others = [dataclasses.replace(scene, seed=seed) for seed in ((4, scene.seed[1]), (3, scene.seed[1] + 1))]
    drawn = [second.draw(other) for other in others]
    np.testing.assert_array_equal(second.draw(scene), picture)
    assert all((other != picture).any() for other in drawn)
    assert (drawn[0] != drawn[1]).any()


def test_every_runtime_here_proves_itself(drawing: Bundle) -> None:
    made = list(attempts(drawing))
    assert [attempt.name for attempt in made] == HERE
    assert all(attempt.graph is not None and attempt.psnr > 40 for attempt in made)
    assert str(made[0]).startswith(f"{HERE[0]}: proved (PSNR ")


def test_a_bundle_without_a_render_graph_is_named(tiny: Bundle) -> None:
    with pytest.raises(BundleError, match="has no graph that draws pictures: export it from a run with"):
        PictureRenderer(tiny)


def test_a_graph_of_another_signature_is_named(drawing: Bundle, tmp_path: Path) -> None:
    other = render_graph(tiny_manifest(context=3, render=True)).SerializeToString()
    with pytest.raises(BundleError, match=r"render\.onnx: the input 'context_3' is missing"):
        PictureRenderer(with_graph(drawing, tmp_path / "b", other))


def test_what_a_runtime_gets_wrong_is_drawn_by_the_next(drawing: Bundle, scene: PictureScene, monkeypatch) -> None:
    class Dimmed:
        """A miscompiled graph."""

        light = 0.9

        def __init__(self, *given) -> None:
            self._graph = OPENVINO.load_graph(*given)
            self.signature = self._graph.signature

        def run(self, inputs):
            return {"image": self._graph.run(inputs)["image"] * self.light}

    bent = dataclasses.replace(OPENVINO, load_graph=Dimmed)
    monkeypatch.setattr(rendering, "runtimes", lambda: (bent, ONNXRUNTIME))
    renderer = PictureRenderer(drawing)
    assert renderer.name == "onnxruntime fp32"
    assert renderer.draw(scene).shape == (128, 256, 3)
    first = next(attempts(drawing))
    assert first.psnr < 40
    assert str(first).startswith(f"{HERE[0]}: its picture is not that of the proof, 40 dB are needed (PSNR ")
    Dimmed.light = float("nan")
    assert str(next(attempts(drawing))) == f"{HERE[0]}: its picture of the proof is not finite"


def test_when_no_runtime_can_each_says_why(drawing: Bundle, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(EngineError) as caught:
        PictureRenderer(with_graph(drawing, tmp_path / "b", unknown_operator(render_graph(drawing.manifest))))
    message = str(caught.value)
    assert message.startswith(f"no engine can draw the pictures of {tmp_path / 'b'}: openvino: openvino is not")
    assert "; onnxruntime fp32: cannot load render.onnx: " in message
    assert "\n" not in message


def test_a_proof_of_another_picture_is_passed_by_none(drawing: Bundle, tmp_path: Path) -> None:
    model = render_graph(drawing.manifest)
    (light,) = (constant for constant in model.graph.initializer if constant.name == "brighter")
    light.CopyFrom(onnx.numpy_helper.from_array(np.float32(12), "brighter"))
    with pytest.raises(EngineError) as caught:
        PictureRenderer(with_graph(drawing, tmp_path / "b", model.SerializeToString()))
    for name in HERE:
        assert f"{name}: its picture is not that of the proof" in str(caught.value)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return faulty_bundle.make_faulty_bundle(tmp_path_factory.mktemp("faulty") / "b")


@pytest.fixture(params=[OPENVINO, ONNXRUNTIME], ids=lambda runtime: runtime.name)
def frail(faulty: Bundle, request, monkeypatch) -> PictureRenderer:
    """Of the faulty bundle, by one runtime."""
    monkeypatch.setattr(rendering, "runtimes", lambda: (request.param,))
    return PictureRenderer(faulty, threads=2)


@pytest.mark.parametrize("fault", [faulty_bundle.RENDERER_NAN, faulty_bundle.RENDERER_INF])
def test_a_picture_that_is_not_finite_is_refused(faulty: Bundle, frail: PictureRenderer, fault) -> None:
    good = scene_of(faulty, [faulty_bundle.picture(0.1 * i) for i in range(8)])
    bad = dataclasses.replace(good, frame=faulty_bundle.picture(0.7, fault))
    before = frail.draw(good)
    with pytest.raises(NotFiniteError, match=f"{frail.name}: render gave a picture with NaN or infinity"):
        frail.draw(bad)
    np.testing.assert_array_equal(frail.draw(good), before)


def test_a_graph_that_throws_says_what_and_where(faulty: Bundle, frail: PictureRenderer) -> None:
    frames = [faulty_bundle.picture(0.1 * i) for i in range(7)]
    scene = scene_of(faulty, [*frames, faulty_bundle.picture(0.7, faulty_bundle.RENDERER_THROWS)])
    with pytest.raises(EngineError, match=f"{frail.name}: render failed: ") as caught:
        frail.draw(scene)
    assert not isinstance(caught.value, NotFiniteError)
