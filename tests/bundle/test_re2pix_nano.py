"""The bundle that ships: engines reproduce it, and on a drive that it never saw it forecasts better than copying."""

from pathlib import Path

import numpy as np
import pytest

from re2pix_node.bundle.locate import DEFAULT_BUNDLE, bundle_folder
from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.imaging.decode import decode
from re2pix_node.pipeline.pipeline import Forecast, Pipeline
from re2pix_node.recordings.reader import open_recording
from re2pix_node.render.renderer import PictureRenderer, PictureScene

DRIVE = Path(__file__).resolve().parents[2] / "data/drive_90002"  # of the simulator's test split
MEGABYTES = 32


@pytest.fixture(scope="module")
def nano() -> Bundle:
    return read_bundle(bundle_folder(DEFAULT_BUNDLE))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_reproduce_it(nano: Bundle, engine: str) -> None:
    _, attempts = open_engine(nano, engine, "fp32")
    proof = attempts[-1].proof
    assert proof is not None
    assert proof.relative_l2 < 1e-4
    assert proof.agreement > 0.999


def test_it_is_small_and_has_a_card(nano: Bundle) -> None:
    assert sum(file.stat().st_size for file in nano.path.iterdir()) < MEGABYTES * 2**20
    assert "licence" in (nano.path / "README.md").read_text()
    assert {entry.licence for entry in nano.manifest.provenance} == {"Apache-2.0"}


@pytest.fixture(scope="module")
def seen(nano: Bundle) -> list[tuple[Forecast, PictureScene]]:
    """Three seconds of the drive: forecasts, and what a picture of their last horizon is drawn from."""
    pipeline = Pipeline(nano, open_engine(nano, "auto", "auto")[0])
    with open_recording(DRIVE) as recording:
        frames = recording.frames(recording.camera("/camera/image/compressed"))
        made = (
            pipeline.observe(decode(frame.message), frame.stamp) for frame, _ in zip(frames, range(51), strict=False)
        )
        return [(seen.forecast, seen.scene(3)) for seen in made if seen.forecast]


@pytest.fixture(scope="module")
def forecasts(seen: list[tuple[Forecast, PictureScene]]) -> list[Forecast]:
    return [forecast for forecast, _ in seen]


def hundredth(stamp: int) -> int:
    """Hundredths of a second: sums of spacings differ from stamps by a nanosecond or two."""
    return round(stamp / 1e7)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_it_says_is_nearer_to_what_comes_than_what_is(forecasts: list[Forecast], k: int) -> None:
    came = {hundredth(forecast.stamp): forecast for forecast in forecasts}
    meant = [(said, came.get(hundredth(said.predicted_stamps[k]))) for said in forecasts]
    pairs = [(said, later) for said, later in meant if later]
    assert len(pairs) > 20
    true = np.stack([later.observed for _, later in pairs])
    said = np.stack([earlier.features[0, k - 1] for earlier, _ in pairs])
    copied = np.stack([earlier.observed for earlier, _ in pairs])
    assert np.abs(said - true).mean() < 0.9 * np.abs(copied - true).mean()
    # And its labels are nearer to the head's labels of the true frame.
    masks = np.stack([later.labels[0, 0] for _, later in pairs])
    right = np.mean(np.stack([earlier.labels[0, k] for earlier, _ in pairs]) == masks)
    kept = np.mean(np.stack([earlier.labels[0, 0] for earlier, _ in pairs]) == masks)
    assert right > kept


def test_what_it_draws_is_nearer_to_what_comes_than_what_is(
    nano: Bundle, seen: list[tuple[Forecast, PictureScene]]
) -> None:
    renderer = PictureRenderer(nano)
    came = {hundredth(forecast.stamp): scene.frame.astype(float) for forecast, scene in seen}
    meant = [(scene, came.get(hundredth(forecast.predicted_stamps[3]))) for forecast, scene in seen[::6]]
    pairs = [(renderer.draw(scene), scene.frame, true) for scene, true in meant if true is not None]
    assert len(pairs) >= 4
    drawn, copied = (np.mean([np.square(each[i] - each[2]).mean() for each in pairs]) for i in (0, 1))
    assert drawn < 0.8 * copied
