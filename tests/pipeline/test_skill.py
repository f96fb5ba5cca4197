"""Live skill, in worlds whose truth is known."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.common.metrics import BETA, smooth_l1
from re2pix_node.engines.session import open_engine
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.pipeline import skill as skill_module
from re2pix_node.pipeline.pipeline import Pipeline
from re2pix_node.pipeline.skill import FEWEST, MOST_WAITING, LiveSkill
from tests.support import drive

MS = 1_000_000
STEP = 100 * MS
FAR = 10**12  # a window that nothing leaves
SHAPE = (3, 4, 5)


def seen(stamp: int) -> np.ndarray:
    """What is seen at a moment: every one looks different."""
    return np.random.default_rng(stamp).normal(0, 0.2, SHAPE).astype(np.float32)


def run(live: LiveSkill, stamps: list[int], forecast, horizons: tuple[int, ...] = (2 * STEP, 4 * STEP)) -> None:
    """A camera's frames, and after each a forecast: forecast(stamp, moment)."""
    for stamp in stamps:
        live.observe(stamp, seen(stamp))
        moments = [stamp + horizon for horizon in horizons]
        live.predict(stamp, moments, np.stack([forecast(stamp, moment) for moment in moments]), seen(stamp))


def every(step: int, count: int, start: int = 0) -> list[int]:
    return [start + i * step for i in range(count)]


def exact(stamp: int, moment: int) -> np.ndarray:
    return seen(moment)


def copied(stamp: int, moment: int) -> np.ndarray:
    return seen(stamp)


def worse(stamp: int, moment: int) -> np.ndarray:
    # Away from the truth, on the far side of what was seen, by 1.2 times as much.
    return seen(moment) + np.float32(1.2) * (seen(stamp) - seen(moment))


def far_off(stamp: int, moment: int) -> np.ndarray:
    return seen(moment) + 100


def test_the_error_is_that_of_re2pix_evaluate() -> None:
    assert skill_module.BETA == BETA
    rng = np.random.default_rng(1)
    error = skill_module._Error()
    for spread in (1e-3, 0.1, 5):
        said, true = rng.normal(0, spread, (2, 7, 9, 11)).astype(np.float32)
        assert error.between(said, true) == pytest.approx(smooth_l1(said, true), rel=1e-5)


@pytest.mark.parametrize(("forecast", "low", "high"), [(exact, 1, 1), (copied, 0, 0), (worse, -0.5, -0.1)])
def test_skill_is_what_it_is_called(forecast, low: float, high: float) -> None:
    live = LiveSkill(2, FAR, MS)
    run(live, every(STEP, 20), forecast)
    now, *ahead = live.values()
    assert math.isnan(now)
    assert len(ahead) == 2
    assert all(low <= value <= high for value in ahead)
    assert live.scored() == [0, 18, 16]


def test_skill_is_clipped_and_of_each_horizon_on_its_own() -> None:
    live = LiveSkill(2, FAR, MS)
    run(live, every(STEP, 20), lambda stamp, moment: (exact if moment == stamp + 2 * STEP else far_off)(stamp, moment))
    assert live.values()[1:] == [1.0, -1.0]


def test_a_few_moments_are_not_enough() -> None:
    live = LiveSkill(1, FAR, MS)
    run(live, every(STEP, 2 + FEWEST - 1), exact, (2 * STEP,))
    assert live.scored() == [0, FEWEST - 1]
    assert math.isnan(live.values()[1])
    run(live, every(STEP, 1, start=(2 + FEWEST - 1) * STEP), exact, (2 * STEP,))
    assert live.values()[1] == 1


@pytest.mark.parametrize(("off", "expected"), [(0.0, 0.0), (0.01, -1.0)])
def test_where_nothing_moves_a_forecast_can_only_equal_copying(off: float, expected: float) -> None:
    live = LiveSkill(1, 5 * STEP, MS)
    # After moments of motion, which leave the window: nothing of them may stay in the sums.
    run(live, every(STEP, 20), worse, (STEP,))
    still = seen(0)
    for stamp in every(STEP, 20, start=20 * STEP):
        live.observe(stamp, still)
        live.predict(stamp, [stamp + STEP], still[None] + np.float32(off), still)
    assert live.values()[1] == expected


def test_a_moment_is_scored_by_the_frame_nearest_to_it() -> None:
    # Frames at 0, 10, 20 ... ms; the moments lie 4 or 6 ms after one, and the forecast knows the frame nearest to them.
    live = LiveSkill(2, FAR, 4 * MS)
    nearest = {24 * MS: 20 * MS, 36 * MS: 40 * MS}
    run(live, every(10 * MS, 20), lambda stamp, moment: seen(stamp + nearest[moment - stamp]), tuple(nearest))
    # Both moments of a frame are scored when the first frame after them is there.
    assert live.scored() == [0, 17, 16]
    assert live.values()[1:] == [1.0, 1.0]


def test_of_two_equally_near_frames_the_newer_counts() -> None:
    live = LiveSkill(1, FAR, 5 * MS)
    run(live, every(10 * MS, 20), lambda stamp, moment: seen(moment + 5 * MS), (25 * MS,))
    assert live.values()[1] == 1


def test_moments_no_frame_came_for_are_not_scored() -> None:
    live = LiveSkill(1, FAR, 20 * MS)
    lost = {5 * STEP, 6 * STEP, 11 * STEP}
    run(live, [stamp for stamp in every(STEP, 20) if stamp not in lost], exact, (2 * STEP,))
    # Of 17 forecasts 2 look beyond the end, and 3 at lost frames.
    assert live.scored() == [0, 17 - 2 - 3]
    assert live.values()[1] == 1
    # A long gap: what was expected in it is forgotten, and later moments count again.
    run(live, every(STEP, 10, start=1000 * STEP), exact, (2 * STEP,))
    assert live.scored() == [0, 12 + 8]
    assert not [expected for expected in live._waiting if expected.moment <= 1009 * STEP]


def test_the_window_slides() -> None:
    live = LiveSkill(2, 10 * STEP, MS)
    run(live, every(STEP, 30), far_off)
    assert live.values()[1:] == [-1.0, -1.0]
    assert live.scored() == [0, 11, 11]
    run(live, every(STEP, 30, start=30 * STEP), exact)
    assert live.values()[1:] == [1.0, 1.0]
    assert live.scored() == [0, 11, 11]


@pytest.mark.parametrize("how", ["jump back", "other size", "told to"])
def test_what_was_measured_elsewhere_is_forgotten(how: str) -> None:
    live = LiveSkill(1, FAR, MS)
    run(live, every(STEP, 20, start=100 * STEP), far_off, (2 * STEP,))
    assert live.values()[1] == -1
    if how == "jump back":
        run(live, every(STEP, 1, start=3 * STEP), exact, (2 * STEP,))
    elif how == "other size":
        live.observe(120 * STEP, np.zeros((4, 4, 5), np.float32))
    else:
        live.forget()
    assert live.scored() == [0, 0]
    assert math.isnan(live.values()[1])


def test_after_a_jump_back_old_forecasts_meet_no_new_frames() -> None:
    live = LiveSkill(1, FAR, MS)
    run(live, every(STEP, 20), far_off, (2 * STEP,))
    # The recording starts again and reaches the moments of the last forecasts before the jump.
    run(live, every(STEP, 25), exact, (2 * STEP,))
    assert live.scored() == [0, 23]
    assert live.values()[1] == 1


def test_a_repeated_frame_changes_nothing() -> None:
    live = LiveSkill(1, FAR, 3 * MS)

    def of_the_frame_before(stamp: int, moment: int) -> np.ndarray:
        return seen(moment - 3 * MS)

    for stamp in every(10 * MS, 20):
        run(live, [stamp], of_the_frame_before, (13 * MS,))
        live.observe(stamp, seen(1))
    assert live.scored() == [0, 18]
    assert live.values()[1] == 1


def test_a_fast_camera_does_not_fill_the_memory() -> None:
    live = LiveSkill(2, FAR, MS // 2)
    run(live, every(MS, 2000), exact, (300 * MS, 500 * MS))
    assert len(live._waiting) <= 2 * MOST_WAITING
    assert live.values()[1:] == [1.0, 1.0]


def test_large_grids_are_compared_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skill_module, "MOST_NUMBERS", 3 * 4 * 5 // 2)

    def exact_where_compared(stamp: int, moment: int) -> np.ndarray:
        expected = seen(moment) + 100
        expected[::2] = seen(moment)[::2]
        return expected

    live = LiveSkill(2, FAR, MS)
    run(live, every(STEP, 20), exact_where_compared)
    assert live.values()[1:] == [1.0, 1.0]
    assert {expected.features.nbytes for expected in live._waiting} == {2 * 4 * 5 * 4}


def test_half_precision_and_views_are_taken() -> None:
    live = LiveSkill(1, FAR, MS)
    for stamp in every(STEP, 20):
        wide = np.concatenate([seen(stamp), np.full_like(seen(0), 9)], axis=-1).astype(np.float16)
        live.observe(stamp, wide[..., : SHAPE[-1]])
        live.predict(stamp, [stamp + STEP], seen(stamp + STEP).astype(np.float16)[None], wide[..., : SHAPE[-1]])
    assert live.values()[1] == 1


@dataclass
class Made:
    stamp: int
    moments: list[int]
    features: np.ndarray
    observed: np.ndarray


def by_the_book(frames: dict[int, np.ndarray], made: list[Made], window: int, tolerance: int) -> list[float]:
    """Skill from all that was ever seen and forecast, at once: no queues, no sums that slide."""
    newest = max(frames)
    skills = [math.nan]
    for k in range(len(made[0].moments)):
        errors = []
        for forecast in made:
            moment = forecast.moments[k]
            if not newest - window <= moment <= newest:
                continue
            nearest = min(frames, key=lambda stamp: (abs(stamp - moment), -stamp))
            if abs(nearest - moment) <= tolerance:
                true = frames[nearest]
                errors.append((smooth_l1(forecast.features[k], true), smooth_l1(forecast.observed, true)))
        said, copying = (math.fsum(error) for error in zip(*errors, strict=True)) if errors else (0.0, 0.0)
        skills.append(math.nan if len(errors) < FEWEST else max(-1.0, 1 - said / copying))
    return skills


@pytest.mark.parametrize("seed", range(40))
def test_it_is_what_an_independent_reckoning_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    horizons = rng.integers(11, 40, rng.integers(1, 4)).tolist()
    window, tolerance = int(rng.choice([40, 100, 300, 2000])), int(rng.integers(0, 11))
    live = LiveSkill(len(horizons), window, tolerance)
    frames: dict[int, np.ndarray] = {}
    made: list[Made] = []
    # A camera's steady steps, bursts, lost frames, and a long gap now and then.
    gaps = rng.choice(
        [10, 10, 9, 11, 3, 1, 5, 20, 37, 900], 80, p=[0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.04, 0.01]
    )
    measured = 0
    for stamp in np.cumsum(gaps).tolist():
        frames[stamp] = rng.normal(0, 1, (2, 3, 4)).astype(np.float32)
        live.observe(stamp, frames[stamp])
        if rng.random() < 0.8:  # not every frame heads a forecast
            # Moments of later forecasts may come earlier: the spacing changes.
            moments = [stamp + horizon + int(rng.integers(-1, 2)) for horizon in horizons]
            features = rng.normal(0, 1, (len(moments), 2, 3, 4)).astype(np.float32)
            made.append(Made(stamp, moments, features, frames[stamp]))
            live.predict(stamp, moments, features, frames[stamp])
        if made:
            expected = by_the_book(frames, made, window, tolerance)
            np.testing.assert_allclose(live.values(), expected, atol=1e-5)
            measured += np.isfinite(expected).sum()
    assert measured or window == 40 or tolerance < 3


def test_on_a_drive_it_is_what_the_stored_forecasts_give(tiny: Bundle) -> None:
    engine, _ = open_engine(tiny, "onnxruntime")
    pipeline, spec = Pipeline(tiny, engine), tiny.manifest
    live = LiveSkill(3, FAR, 20 * MS)
    frames: dict[int, np.ndarray] = {}
    made: list[Made] = []
    for stamp in (round(i * 1e9 / 10) for i in range(40)):
        picture = drive.frame(stamp / 1e9, spec.image.width, spec.image.height)
        forecast = pipeline.observe(picture, stamp).forecast
        fitted, _ = fit_frame(picture, spec.image.height, spec.image.width, "crop")
        frames[stamp] = engine.fetch(engine.encode(fitted[None]))[0]
        live.observe(stamp, frames[stamp])
        if forecast:
            made.append(Made(stamp, list(forecast.predicted_stamps[1:]), forecast.features[0], forecast.observed))
            live.predict(stamp, made[-1].moments, made[-1].features, made[-1].observed)
    expected = by_the_book(frames, made, FAR, 20 * MS)
    assert live.scored()[1:] == [len(made) - 2 * k for k in (1, 2, 3)]
    assert -1 < expected[2] < expected[1] < 0  # the tiny bundle overshoots; so little that nothing is clipped
    np.testing.assert_allclose(live.values(), expected, atol=1e-5)
