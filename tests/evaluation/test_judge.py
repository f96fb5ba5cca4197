"""The judge judged: worlds where the right answer is known."""

import dataclasses

import numpy as np
import pytest

from re2pix_node.errors import Re2pixError
from re2pix_node.evaluation.judge import judge
from re2pix_node.evaluation.rows import BASELINES, ROWS, Forecasters, see_scene
from tests.support.worlds import CLASSES, SPACING, Seer, Sliding, drive_of, model, samples, sliding_drives


def judged(engine: Seer, drives, baselines=BASELINES, **more) -> dict:
    return judge(model(engine), CLASSES, drives, 1, baselines, **more)[0]


def value(result: dict, row: str, name: str, k: int = -1) -> float:
    return result["horizons"][k]["rows"][row][name]["value"]


@pytest.fixture(scope="module")
def perfect() -> dict:
    return judged(Seer(), sliding_drives(6))


def test_who_knows_the_future_is_as_good_as_the_oracle(perfect: dict) -> None:
    for horizon in perfect["horizons"]:
        assert list(horizon["rows"]) == list(ROWS)
        for row in ("forecast", "oracle"):
            scored = horizon["rows"][row]
            for name in ("cosine", "accuracy", "miou", "moving_miou", "changed_accuracy", "changed_miou"):
                assert scored[name]["value"] == pytest.approx(1), (row, name)
            assert scored["smooth_l1"]["value"] == pytest.approx(0, abs=1e-9)
        for closed in horizon["rows"]["forecast"]["gap_closed"].values():
            assert closed["value"] == pytest.approx(1)
    assert perfect["reference"] == "true"
    assert perfect["head_agreement"] == 1


def test_rows_stand_in_the_order_they_must(perfect: dict) -> None:
    for name in ("accuracy", "miou", "changed_accuracy"):
        for k in range(3):
            oracle, forecast, warp, copy = (
                value(perfect, row, name, k) for row in ("oracle", "forecast", "warp", "copy")
            )
            assert oracle >= forecast > warp > copy, (name, k)
    assert value(perfect, "warp", "smooth_l1") < value(perfect, "copy", "smooth_l1")
    assert value(perfect, "ridge", "smooth_l1") < value(perfect, "copy", "smooth_l1")
    assert value(perfect, "copy", "changed_accuracy") == 0


def test_who_knows_the_future_beats_all_and_who_copies_none(perfect: dict) -> None:
    assert all(against["beats"] for horizon in perfect["horizons"] for against in horizon["against"].values())
    assert "beats the flow warp at 0.54 s" in " ".join(perfect["horizons"][-1]["verdict"])
    copier = judged(Seer(cells_a_step=0), sliding_drives(4))
    assert value(copier, "forecast", "miou") == value(copier, "copy", "miou")
    assert copier["horizons"][-1]["rows"]["forecast"]["gap_closed"]["miou"]["value"] == pytest.approx(0)
    assert not any(against["beats"] for horizon in copier["horizons"] for against in horizon["against"].values())
    assert "does not beat the flow warp at 0.54 s" in " ".join(copier["horizons"][-1]["verdict"])


def test_half_the_motion_lies_between_copying_and_knowing() -> None:
    drives = sliding_drives(4, cells_a_step=2)
    half = judged(Seer(cells_a_step=1), drives, baselines=())
    closed = half["horizons"][0]["rows"]["forecast"]["gap_closed"]
    assert 0.2 < closed["accuracy"]["value"] < 0.8
    assert 0.2 < closed["changed_accuracy"]["value"] < 0.8
    assert list(half["horizons"][0]["rows"]) == ["copy", "forecast", "oracle"]


def with_labels(clip, labels_of):
    """The clip with other true labels; `labels_of(sample index, horizon)` gives them, horizon 0 being now."""
    return [
        dataclasses.replace(
            sample, now_labels=labels_of(i, 0), future_labels=tuple(labels_of(i, k) for k in range(1, 4))
        )
        for i, sample in enumerate(clip)
    ]


def test_shuffled_labels_make_the_scores_collapse() -> None:
    rng = np.random.default_rng(0)
    worlds = [Sliding(i) for i in range(3)]

    def shuffled(world):
        def labels(i: int, k: int) -> np.ndarray:
            return rng.permuted(world.labels(3 + i + k).ravel()).reshape(128, 256)

        return with_labels(samples(world), labels)

    drives = [drive_of(f"clip {i}", shuffled(world)) for i, world in enumerate(worlds)]
    result = judged(Seer(), drives, baselines=())
    for row in ("forecast", "oracle", "copy"):
        assert value(result, row, "accuracy") < 0.35  # 5 classes: chance is near 0.2
        assert value(result, row, "miou") < 0.25
    assert value(result, "forecast", "ece") > 0.5  # and it was sure of itself


def test_a_shifted_clock_makes_the_scores_collapse(perfect: dict) -> None:
    def late(world):
        return with_labels(samples(world), lambda i, k: world.labels(3 + i + k + 8))

    drives = [drive_of(f"clip {i}", late(Sliding(i))) for i in range(3)]
    result = judged(Seer(), drives, baselines=())
    assert value(perfect, "forecast", "accuracy") == pytest.approx(1)
    assert value(result, "forecast", "accuracy") < 0.5
    assert value(result, "oracle", "miou") < 0.4
    # Future frames from another time: the features show it as well.
    world = Sliding(0)
    clip = [
        dataclasses.replace(
            sample,
            future=tuple(world.frame(20 + i + k) for k in range(3)),
            future_stamps=tuple((20 + i + k) * SPACING for k in range(3)),
        )
        for i, sample in enumerate(samples(world))
    ]
    shifted = judged(Seer(), [drive_of("clip", clip)], baselines=())
    assert value(shifted, "forecast", "smooth_l1") > value(perfect, "copy", "smooth_l1")
    assert value(shifted, "forecast", "cosine") < value(perfect, "copy", "cosine")


def test_copying_a_still_scene_is_perfect_and_leaves_no_gap() -> None:
    result = judged(Seer(cells_a_step=0), sliding_drives(2, cells_a_step=0))
    for row in ROWS:
        assert value(result, row, "accuracy") == pytest.approx(1), row
        assert value(result, row, "smooth_l1") == pytest.approx(0, abs=1e-6), row
    scored = result["horizons"][-1]["rows"]["forecast"]
    assert scored["changed_accuracy"]["value"] is None  # nothing changed
    assert scored["gap_closed"]["miou"]["value"] is None  # nothing to gain
    assert result["now"]["flicker"]["value"] == 0
    assert not result["horizons"][-1]["against"]["copy"]["beats"]


def test_consistency_is_of_the_same_moment(perfect: dict) -> None:
    # A perfect forecast never changes; a copy changes wherever something moves.
    for k in range(3):
        assert value(perfect, "forecast", "consistency", k) == pytest.approx(1)
        changed = 1 - value(perfect, "copy", "accuracy", 0)
        assert value(perfect, "copy", "consistency", k) == pytest.approx(1 - changed, abs=0.02)
    assert perfect["now"]["flicker"]["value"] == 0


def test_without_true_labels_the_oracle_is_the_reference() -> None:
    clips = [with_labels(samples(Sliding(i)), lambda i, k: None) for i in range(2)]
    result = judged(Seer(), [drive_of(f"clip {i}", clip) for i, clip in enumerate(clips)], baselines=())
    assert result["reference"] == "pseudo"
    assert any("no true labels" in note for note in result["notes"])
    assert result["labelled_samples"] == 0
    assert value(result, "oracle", "miou") == value(result, "forecast", "miou") == pytest.approx(1)
    assert value(result, "copy", "changed_accuracy") == 0
    assert set(result["now"]) == {"flicker"}


def test_clips_without_labels_do_not_mix_into_the_truth(perfect: dict) -> None:
    bare = with_labels(samples(Sliding(9)), lambda i, k: None)
    result = judged(Seer(cells_a_step=0), [*sliding_drives(6), drive_of("bare", bare)], baselines=())
    assert result["reference"] == "true"
    assert result["labelled_samples"] == 36
    assert "Intervals from 7 clips with 6 of them labelled are rough." in result["notes"]
    assert value(result, "copy", "miou") == pytest.approx(value(perfect, "copy", "miou"))
    assert value(result, "copy", "smooth_l1") != value(perfect, "copy", "smooth_l1")  # features count everywhere


def test_where_single_frames_are_labelled_no_pixel_is_known_to_change() -> None:
    # As Cityscapes labels one frame of a snippet: here the one after the third sample.
    clips = [
        with_labels(samples(world), lambda i, k, world=world: world.labels(6) if i + k == 3 else None)
        for world in map(Sliding, range(3))
    ]
    drives = [drive_of(f"clip {i}", clip) for i, clip in enumerate(clips)]
    result = judged(Seer(), drives, baselines=())
    assert result["reference"] == "true"
    assert result["labelled_samples"] == 9
    for horizon in result["horizons"]:
        assert horizon["rows"]["forecast"]["accuracy"]["value"] == pytest.approx(1)
        assert horizon["rows"]["copy"]["accuracy"]["value"] < 0.9
        assert horizon["rows"]["copy"]["changed_accuracy"]["value"] is None
    verdict = result["horizons"][-1]["verdict"][0]
    assert "beats copying" in verdict
    assert "not measured in accuracy on changed pixels" in verdict


def test_intervals_hold_the_scores(perfect: dict) -> None:
    for name in ("miou", "accuracy", "smooth_l1"):
        found = perfect["horizons"][0]["rows"]["copy"][name]
        assert found["low"] <= found["value"] <= found["high"]
        assert found["low"] < found["high"]
    assert perfect["interval"]["clips"] == 6


@pytest.mark.parametrize("clips", [1, 5])
def test_few_clips_have_no_intervals_and_it_is_said(clips: int) -> None:
    result = judged(Seer(), sliding_drives(clips), baselines=("warp",))
    assert result["interval"] is None
    for horizon in result["horizons"]:
        assert all(horizon["rows"]["copy"][name]["low"] is None for name in ("miou", "smooth_l1", "accuracy"))
        assert all("(without intervals)" in sentence for sentence in horizon["verdict"])
    assert any(note.startswith("Fewer than 6 clips, so no intervals: ") for note in result["notes"])


def test_one_clip_has_no_ridge() -> None:
    result = judged(Seer(), sliding_drives(1), baselines=("ridge",))
    assert "ridge" not in result["horizons"][0]["rows"]
    assert result["ridge"].startswith("left out")


def test_the_ridge_learns_on_clips_that_it_is_not_scored_on() -> None:
    # Moving clips teach nothing about static clips, and the other way round.
    still, sliding = (samples(Sliding(i, cells)) for i, cells in ((0, 0), (1, 1)))
    drives = [drive_of("still", still), drive_of("sliding", sliding)]
    crossed = judged(Seer(), drives)
    assert crossed["ridge"] == "cross-fitted in two folds (1 and 1 clips)"
    by_name = {clip["name"]: clip["horizons"][-1] for clip in crossed["clips"]}
    taught_standing = by_name["sliding"]
    assert taught_standing["ridge"]["smooth_l1"] == pytest.approx(taught_standing["copy"]["smooth_l1"], rel=0.02)
    apart = judged(Seer(), drives[1:], ridge_drives=[drive_of("more", samples(Sliding(2)))])
    assert apart["ridge"] == "fitted on 1 clips apart"
    scored = apart["horizons"][-1]["rows"]
    assert scored["ridge"]["smooth_l1"]["value"] < 0.9 * scored["copy"]["smooth_l1"]["value"]


class Fading(Sliding):
    """Stands still, while each patch goes its own way from light to dark or back, evenly."""

    def frame(self, step: int) -> np.ndarray:
        slope = np.linspace(-6, 6, 256)[None, :, None]
        light = np.random.default_rng(0).uniform(80, 170, (16, 32, 3)).repeat(8, 0).repeat(8, 1)
        return (light + slope * step).clip(0, 255).astype(np.uint8)


def test_the_ridge_knows_a_linear_world_from_its_context() -> None:
    drives = [drive_of(f"clip {i}", samples(Fading(i))) for i in range(2)]
    result = judged(Seer(cells_a_step=0), drives, baselines=("ridge",))
    for k in range(3):
        assert value(result, "ridge", "smooth_l1", k) < 0.05 * value(result, "copy", "smooth_l1", k)


def test_confidence_moves_with_the_labels_it_belongs_to() -> None:
    class SureOfOne(Seer):
        def forecast(self, context, noise=None):
            outputs = super().forecast(context)
            outputs.confidence[:] = np.where(outputs.labels == 2, 250, 50)
            return outputs

    scene = see_scene(model(SureOfOne()), samples(Sliding(1))[0])
    for said in Forecasters(model(SureOfOne()), ("warp",), None).say(scene)[1]:
        read = said["warp"].read
        np.testing.assert_array_equal(read.confidence, np.where(read.labels == 2, 250, 50))


def test_a_clip_is_shown_at_its_moment_of_most_change() -> None:
    # Labels that change by 1, 3 and 2 rows of the picture.
    def labels(i: int, k: int) -> np.ndarray:
        mask = np.zeros((128, 256), np.uint8)
        mask[: 16 * (1, 3, 2)[i] if k else 0] = 2
        return mask

    clip = with_labels(samples(Sliding(), count=3), labels)
    _, [counted] = judge(model(Seer()), CLASSES, [drive_of("clip", clip)], 1, ())
    assert counted.snapshot.change == pytest.approx(3 / 8)
    np.testing.assert_array_equal(counted.snapshot.picture, clip[1].context[-1])


def test_no_sample_at_all_is_an_error_and_a_short_clip_is_named() -> None:
    with pytest.raises(Re2pixError, match="no clip holds a single sample"):
        judged(Seer(), [drive_of("short", [])])
    result = judged(Seer(), [*sliding_drives(2), drive_of("short", [])])
    assert any("left out: short" in note for note in result["notes"])
    assert [clip["name"] for clip in result["clips"]] == ["clip 0", "clip 1"]


def test_a_head_that_looks_back_is_found_out() -> None:
    class LooksBack(Seer):
        def forecast(self, context, noise=None):
            outputs = super().forecast(context)
            outputs.labels[0, 0] = super().forecast(context[:1]).labels[0, 0]
            return outputs

    result = judged(LooksBack(), sliding_drives(2), baselines=())
    assert result["head_agreement"] < 0.9
    assert any("depends on the frames before it" in note for note in result["notes"])
