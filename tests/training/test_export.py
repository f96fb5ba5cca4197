"""A run with every step, the renderer's too, as a bundle that draws; one without is in commands/test_train.py."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.cli import main
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import NotFiniteError
from re2pix_node.pipeline.pipeline import Pipeline
from re2pix_node.render.renderer import PictureRenderer, PictureScene, attempts
from tests.support import drive
from tests.support.exported_once import encoder_exported_once
from tests.support.made_runs import HEIGHT, WIDTH

pytestmark = pytest.mark.long  # an export of three graphs


@pytest.fixture(scope="module")
def drawing(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("exported") / "drawing"
    with encoder_exported_once(tmp_path_factory):
        assert main(["export", str(trained_run), "-o", str(folder), "--licence", "MIT"]) == 0
    return read_bundle(folder)


def test_a_bundle_says_what_draws_its_pictures(drawing: Bundle) -> None:
    manifest = drawing.manifest
    assert manifest.render.noise == 4 * (HEIGHT // 8) * (WIDTH // 8)
    assert [(p.what, p.licence) for p in manifest.provenance[1:]] == [
        ("PCA, forecaster and head", "MIT"),
        ("autoencoder, renderer and finisher", "MIT"),
    ]
    commands = {score.metric: score.command.partition(" run.yaml")[0] for score in manifest.scores}
    assert commands["psnr of true pictures through the autoencoder"] == "re2pix train vae"
    assert commands["squared error of latents, in shares of moving on"] == "re2pix train renderer"
    assert commands["error of pixels of pictures, in shares of moving on"] == "re2pix train finisher"


def test_every_runtime_draws_what_pytorch_drew(drawing: Bundle) -> None:
    made = {attempt.name: attempt for attempt in attempts(drawing)}
    assert {"openvino fp32", "onnxruntime fp32"} <= set(made)
    for attempt in made.values():
        assert attempt.graph is not None, str(attempt)
        assert attempt.psnr > (45 if attempt.name.endswith("fp32") else 30)


@pytest.fixture(scope="module")
def scene(drawing: Bundle) -> PictureScene:
    """Of the second horizon of a forecast."""
    pipeline = Pipeline(drawing, open_engine(drawing, "onnxruntime")[0])
    observations = [pipeline.observe(drive.frame(i / 7, WIDTH, HEIGHT), i * 10**9 // 7) for i in range(8)]
    return observations[-1].scene(2)


def test_the_seed_decides_what_is_drawn_of_a_forecast(drawing: Bundle, scene: PictureScene) -> None:
    renderer = PictureRenderer(drawing)
    picture = renderer.draw(scene)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(renderer.draw(scene), picture)
    for other in ({"seed": (9, 9)}, {"horizon": 1}, {"features": scene.features + 1}):
        assert (renderer.draw(dataclasses.replace(scene, **other)) != picture).any()


def test_what_is_not_finite_never_becomes_a_picture(drawing: Bundle, scene: PictureScene) -> None:
    """OpenVINO makes numbers of NaNs on the way."""
    features = scene.features.copy()
    features[0, 0, 0] = np.nan
    with pytest.raises(NotFiniteError, match="a picture with NaN or infinity"):
        PictureRenderer(drawing).draw(dataclasses.replace(scene, features=features))
