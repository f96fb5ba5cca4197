"""Frames in, forecasts out: time, geometry, and faults that are never let through."""

import dataclasses

import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.engines.session import open_engine
from re2pix_node.errors import EngineError, OutputError, StampError
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.pipeline.buffer import Arrival
from re2pix_node.pipeline.pipeline import NoForecast, Observation, Pipeline
from tests.support.drive import frame
from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest

MS = 1_000_000


@pytest.fixture
def pipeline(tiny: Bundle) -> Pipeline:
    return Pipeline(tiny, open_engine(tiny, "onnxruntime")[0])


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with an optional output."""
    return make_tiny_bundle(tmp_path_factory.mktemp("warm") / "b", tiny_manifest(warmth=True))


def drive(pipeline: Pipeline, stamps: list[int], width: int = 320, height: int = 160) -> list:
    """The forecasts of a drive's frames, None where there is none."""
    return [seen.forecast for seen in observe(pipeline, stamps, width, height)]


def observe(pipeline: Pipeline, stamps: list[int], width: int = 320, height: int = 160) -> list[Observation]:
    return [pipeline.observe(frame(stamp / 1e9, width, height), stamp) for stamp in stamps]


def at_rate(rate: float, count: int, start: int = 0) -> list[int]:
    return [start + round(i * 1e9 / rate) for i in range(count)]


@pytest.mark.parametrize(
    ("rate", "spacing_ms", "first"),
    [(30, 1000 / 6, 15), (17, 3000 / 17, 9), (10, 200, 6), (60, 1000 * 11 / 60, 33)],
)
def test_forecasts_start_with_the_first_full_context(
    pipeline: Pipeline, rate: float, spacing_ms: float, first: int
) -> None:
    stamps = at_rate(rate, first + 4, start=5)
    forecasts = drive(pipeline, stamps)
    # At 60 Hz a shorter spacing than the best is on offer, within [min, max], before the best one is.
    started = next(i for i, forecast in enumerate(forecasts) if forecast)
    assert started <= first
    assert all(forecasts[started:])
    last = forecasts[-1]
    assert last.stamp == stamps[-1]
    assert last.spacing == pytest.approx(spacing_ms * MS, abs=2)
    assert last.context_stamps[-1] == last.stamp
    np.testing.assert_allclose(np.diff(last.context_stamps), last.spacing, atol=3)
    assert last.horizons == (0, last.spacing, 2 * last.spacing, 3 * last.spacing)
    assert last.predicted_stamps == tuple(last.stamp + h for h in last.horizons)


def test_a_first_frame_stamped_zero_is_a_frame(pipeline: Pipeline) -> None:
    forecasts = drive(pipeline, at_rate(10, 7))
    assert forecasts[6] is not None
    assert forecasts[6].context_stamps == (0, 200 * MS, 400 * MS, 600 * MS)


@pytest.mark.parametrize("stamp", [-1, -(10**18), 2**31 * 10**9 - 1])
def test_a_stamp_that_no_forecast_could_have_is_refused(pipeline: Pipeline, stamp: int) -> None:
    with pytest.raises(StampError, match="stamps must lie from 0 to 2147397248 s"):
        observe(pipeline, [stamp])
    stamps = at_rate(10, 12)
    assert any(observation.forecast for observation in observe(pipeline, stamps))


def test_the_forecast_is_what_the_engine_makes_of_these_frames(tiny: Bundle, pipeline: Pipeline) -> None:
    forecast = drive(pipeline, at_rate(10, 12))[-1]
    engine, _ = open_engine(tiny, "onnxruntime")
    pictures = [fit_frame(frame(s / 1e9, 320, 160), 128, 256, "crop")[0] for s in forecast.context_stamps]
    encoded = [engine.encode(picture[None]) for picture in pictures]
    expected = engine.forecast(encoded)
    np.testing.assert_array_equal(forecast.features, expected.features)
    np.testing.assert_array_equal(forecast.labels, expected.labels)
    np.testing.assert_array_equal(forecast.confidence, expected.confidence)
    np.testing.assert_array_equal(forecast.observed, encoded[-1][0])


def test_a_loop_starts_anew_and_a_repeat_is_ignored(pipeline: Pipeline) -> None:
    stamps = at_rate(10, 8, start=10**12)
    assert drive(pipeline, stamps)[-1]
    (repeated,) = observe(pipeline, [stamps[-1]])
    assert (repeated.forecast, repeated.missing) == (None, NoForecast.REPEATED)
    assert (repeated.arrival, repeated.features, dict(repeated.seconds)) == (Arrival.REPEATED, None, {})
    (looped,) = observe(pipeline, stamps[:1])
    assert (looped.forecast, looped.missing, looped.arrival) == (None, NoForecast.NO_CONTEXT, Arrival.JUMPED_BACK)
    assert looped.features is not None
    assert set(looped.seconds) == {"fit", "encode"}
    again = drive(pipeline, stamps[1:])
    assert [f is not None for f in again] == [False] * 5 + [True] * 2
    assert min(again[-1].context_stamps) >= stamps[0]


def test_a_gap_forgets_what_was_before(pipeline: Pipeline) -> None:
    stamps = at_rate(10, 8)
    drive(pipeline, stamps)
    after = [stamp + 3_000 * MS for stamp in stamps]
    (first,) = observe(pipeline, after[:1])
    assert (first.forecast, first.arrival) == (None, Arrival.AFTER_GAP)
    forecasts = drive(pipeline, after[1:])
    assert all(min(f.context_stamps) >= after[0] for f in forecasts if f)
    assert forecasts[-1]


def test_a_frame_of_another_size_starts_anew(pipeline: Pipeline) -> None:
    stamps = at_rate(10, 20)
    assert drive(pipeline, stamps[:8])[-1]
    resized = drive(pipeline, stamps[8:], width=400, height=300)
    assert [f is not None for f in resized] == [False] * 6 + [True] * 6
    region = resized[-1].region
    assert (region.image_width, region.image_height) == (400, 300)
    assert region.width / region.height == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_the_fit_can_be_chosen(tiny: Bundle, fit: str) -> None:
    pipeline = Pipeline(tiny, open_engine(tiny, "onnxruntime")[0], fit)
    region = drive(pipeline, at_rate(10, 8), width=300, height=200)[-1].region
    sizes = {"crop": (300, 150), "stretch": (300, 200), "pad": (400, 200)}
    assert (region.width, region.height) == pytest.approx(sizes[fit], abs=3)


class _Broken:
    """A real engine that goes wrong from the nth frame on."""

    def __init__(self, engine, from_frame: int, what: str) -> None:
        self._engine = engine
        self._left = from_frame
        self._what = what

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def encode(self, picture):
        self._left -= 1
        features = self._engine.encode(picture).copy()
        if self._left < 0 and self._what == "encode":
            features[0, 3, 4, 5] = np.inf
        return features

    def forecast(self, context, noise=None):
        outputs = self._engine.forecast(context, noise)
        if self._left < 0 and self._what == "forecast":
            outputs.features[0, -1, 3, 4, 5] = np.nan
        return outputs


@pytest.mark.parametrize("what", ["encode", "forecast"])
def test_features_that_are_not_finite_are_never_given_on(tiny: Bundle, what: str) -> None:
    pipeline = Pipeline(tiny, _Broken(open_engine(tiny, "onnxruntime")[0], 8, what))
    stamps = at_rate(10, 9)
    assert drive(pipeline, stamps[:8])[-1]
    with pytest.raises(EngineError, match="NaN or infinity"):
        drive(pipeline, stamps[8:])
    # A bad encoding does not stay behind in the buffer for later contexts.
    pipeline._engine._what = "nothing"
    after = drive(pipeline, at_rate(10, 12, start=stamps[-1] + 100 * MS))
    assert all(np.isfinite(f.features).all() for f in after if f)
    assert after[-1]


class _Bent:
    """A real engine with one value of one output changed."""

    def __init__(self, engine, output: str, value: float) -> None:
        self._engine = engine
        self._output = output
        self._value = value

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def encode(self, picture):
        return self._change(self._engine.encode(picture), "encoded")

    def forecast(self, context, noise=None):
        outputs = self._engine.forecast(context, noise)
        optional = {name: self._change(array, name) for name, array in outputs.optional.items()}
        changed = {name: self._change(getattr(outputs, name), name) for name in ("features", "labels")}
        return dataclasses.replace(outputs, **changed, optional=optional)

    def _change(self, array, name: str):
        if name == self._output:
            array = array.copy()
            array.reshape(-1)[11] = self._value
        return array


@pytest.mark.parametrize(
    ("output", "value", "expected"),
    [
        ("encoded", 65520.0, "the encoder gave features above 65504, which half precision cannot hold"),
        ("features", -1e30, "the forecaster gave features above 65504"),
        ("features", np.nan, "the forecaster gave features with NaN"),
        ("labels", 99, "the forecaster gave the class 99, which the bundle does not name"),
        ("warmth", np.nan, "the forecaster gave warmth with NaN or infinity"),
        ("warmth", np.inf, "the forecaster gave warmth with NaN or infinity"),
    ],
)
def test_outputs_that_must_not_be_published_are_refused(warm: Bundle, output: str, value: float, expected: str) -> None:
    engine = _Bent(open_engine(warm, "onnxruntime")[0], output, value)
    with pytest.raises(OutputError, match=expected):
        drive(Pipeline(warm, engine), at_rate(10, 9))


@pytest.mark.parametrize(("output", "value"), [("features", 65519.0), ("labels", 255), ("warmth", 1e30)])
def test_outputs_at_the_limit_are_published(warm: Bundle, output: str, value: float) -> None:
    engine = _Bent(open_engine(warm, "onnxruntime")[0], output, value)
    forecast = drive(Pipeline(warm, engine), at_rate(10, 9))[-1]
    assert np.isfinite(forecast.features.astype("<f2")).all()
    found = forecast.optional["warmth"] if output == "warmth" else getattr(forecast, output)
    assert found.reshape(-1)[11] == found.dtype.type(value)


class _OnDevice:
    """An engine that keeps features where only it finds them."""

    def __init__(self, engine) -> None:
        self._engine = engine
        self.fetched = 0

    def encode(self, picture):
        return [self._engine.encode(picture)]

    def forecast(self, context, noise=None):
        return self._engine.forecast([features for (features,) in context], noise)

    def fetch(self, held):
        self.fetched += 1
        return held[0]


def test_a_scene_is_what_its_forecast_was_made_from(tiny: Bundle) -> None:
    engine = _OnDevice(open_engine(tiny, "onnxruntime")[0])
    pipeline = Pipeline(tiny, engine, seed=5)
    stamps = at_rate(10, 12)
    observation = observe(pipeline, stamps)[-1]
    forecast = observation.forecast
    assert forecast is not None
    assert engine.fetched == 12  # nothing for a scene without a request
    for k in (1, 3):
        scene = observation.scene(k)
        np.testing.assert_array_equal(scene.features, forecast.features[0, k - 1])
        assert scene.horizon == k
        assert scene.seed == (5, forecast.stamp)
    np.testing.assert_array_equal(scene.frame, fit_frame(frame(stamps[-1] / 1e9, 320, 160), 128, 256, "crop")[0])
    pictures = [fit_frame(frame(s / 1e9, 320, 160), 128, 256, "crop")[0] for s in forecast.context_stamps]
    for found, picture in zip(scene.context, pictures, strict=True):
        np.testing.assert_array_equal(found, engine.encode(picture[None])[0])


def test_an_observation_stays_what_it_was(pipeline: Pipeline) -> None:
    *_, older, _ = observe(pipeline, at_rate(10, 12))
    before = older.scene(1)
    observe(pipeline, at_rate(10, 30, start=2_000 * MS), width=400, height=300)
    after = older.scene(1)
    np.testing.assert_array_equal(before.frame, after.frame)
    np.testing.assert_array_equal(before.context, after.context)
    with pytest.raises(dataclasses.FrozenInstanceError):
        older.forecast = None  # type: ignore[misc]


def test_samples_are_all_there(tmp_path) -> None:
    from tests.support.tiny_bundle import make_tiny_bundle, tiny_manifest

    bundle = make_tiny_bundle(tmp_path / "b", tiny_manifest(samples=3))
    forecast = drive(Pipeline(bundle, open_engine(bundle, "onnxruntime")[0]), at_rate(10, 8))[-1]
    assert forecast.features.shape == (3, 3, 16, 32, 16)
    assert forecast.labels.shape == (3, 4, 64, 128)
    assert not np.array_equal(forecast.features[0], forecast.features[1])
