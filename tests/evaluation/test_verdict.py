"""The verdict: its sentences, the order of clips, and the picture of the right row at each pixel."""

import cv2
import numpy as np

from re2pix_node.evaluation.judge import judge
from re2pix_node.evaluation.pictures import DIFFERENCE, difference, panels
from re2pix_node.evaluation.ranking import ranking
from re2pix_node.evaluation.scoring import Snapshot
from re2pix_node.evaluation.verdict import judged, verdict
from tests.support.worlds import CLASSES, Seer, Sliding, drive_of, model, samples


def resampled(value: float, spread: float) -> np.ndarray:
    return np.array([value, *np.linspace(value - spread, value + spread, 999)])


def test_beating_needs_all_three_scores_beyond_doubt() -> None:
    sure = {
        "smooth_l1": resampled(-0.02, 0.01),  # an error: less is better
        "miou": resampled(0.05, 0.02),
        "changed_accuracy": resampled(0.1, 0.05),
    }
    assert judged(sure)["beats"]
    assert verdict("warp", judged(sure), 0.54) == (
        "The forecast beats the flow warp at 0.54 s: better in SmoothL1, mIoU and accuracy on changed pixels."
    )
    doubtful = judged(sure | {"miou": resampled(0.05, 0.2)})
    assert not doubtful["beats"]
    assert verdict("ridge", doubtful, 0.18) == (
        "The forecast does not beat the ridge at 0.18 s: better in SmoothL1 and accuracy on changed pixels; "
        "no clear difference in mIoU."
    )
    worse = judged(sure | {"smooth_l1": resampled(0.02, 0.01)})
    assert not worse["beats"]
    assert "worse in SmoothL1" in verdict("copy", worse, 0.18)


def test_a_score_without_an_interval_is_not_beyond_doubt_beside_one_with_it() -> None:
    mixed = judged(
        {
            "smooth_l1": resampled(-0.02, 0.01),
            "miou": resampled(0.05, 0.02),
            "changed_accuracy": np.array([0.1, *np.full(999, np.nan)]),
        }
    )
    assert not mixed["beats"]
    assert "measured without an interval in accuracy on changed pixels" in verdict("copy", mixed, 0.18)


def test_what_was_not_measured_wins_nothing() -> None:
    nothing = judged(dict.fromkeys(("smooth_l1", "miou", "changed_accuracy"), np.array([np.nan])))
    assert not nothing["beats"]
    assert "not measured in SmoothL1, mIoU and accuracy on changed pixels" in verdict("copy", nothing, 0.18)


def test_clips_are_ranked_by_what_the_forecast_gains() -> None:
    # Of a forecaster that expects one cell a step: right, then as wrong as copying, then needlessly wrong.
    drives = [drive_of(name, samples(Sliding(0, cells))) for name, cells in (("still", 0), ("back", -1), ("right", 1))]
    result, clips = judge(model(Seer()), CLASSES, drives, 1, ())
    ranked = ranking(clips, result["reference"])
    assert ranked["shown"]["best"] == "right"
    gains = [clip["gain"] for clip in ranked["clips"]]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0 > gains[-1]
    assert ranked["shown"]["worst"] == ranked["clips"][-1]["name"] != "right"
    assert set(ranked["shown"]) == {"best", "median", "worst"}
    assert ranking(clips[:1], result["reference"])["shown"] == {"only": "still"}


def test_the_picture_of_differences_shows_who_is_right() -> None:
    none = CLASSES.count
    true = np.array([[0, 1, 2, 3, none]])
    masks = {"forecast": np.array([[0, 1, 0, 0, 0]]), "copy": np.array([[0, 0, 2, 0, 0]]), "oracle": true}
    shot = Snapshot(np.zeros((16, 80, 3), np.uint8), 0.54, true, masks, 0.5, 0)
    expected = ["both right", "only the forecast right", "only copying right", "both wrong", "does not count"]
    assert [tuple(colour) for colour in difference(shot, none)[0]] == [DIFFERENCE[name] for name in expected]
    shown = panels(shot, CLASSES, "true labels")
    assert list(shown)[1] == "true labels, in 0.54 s"
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(shown["copying the last frame"], np.uint8), 1), cv2.COLOR_BGR2RGB)
    assert decoded[0, 0].tolist() == CLASSES.colours[0].tolist()
    assert decoded[0, decoded.shape[1] // 2].tolist() == CLASSES.colours[2].tolist()
