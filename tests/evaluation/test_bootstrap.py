import numpy as np
import pytest

from re2pix_node.evaluation import bootstrap
from re2pix_node.evaluation.bootstrap import figure, resampling


def interval_of_mean(values: np.ndarray) -> dict:
    weights = resampling(len(values))
    return figure(weights @ values / weights.sum(axis=1))


def test_the_interval_holds_the_score_and_shrinks_with_more_clips() -> None:
    widths = []
    for clips in (10, 20, 80, 320):
        values = np.tile([0.3, 0.4, 0.5, 0.6, 0.7], clips // 5)
        found = interval_of_mean(values)
        assert found["low"] < found["value"] < found["high"]
        np.testing.assert_allclose(found["value"], values.mean())
        widths.append(found["high"] - found["low"])
    assert widths == sorted(widths, reverse=True)
    # As the theory of means has it: 2 * 1.96 * standard deviation / sqrt(clips).
    np.testing.assert_allclose(widths[-1], 2 * 1.96 * np.sqrt(0.02 / 320), rtol=0.1)


def test_the_same_clips_have_the_same_interval() -> None:
    values = np.array([0.1, 0.5, 0.4, 0.8, 0.2, 0.7])
    assert interval_of_mean(values) == interval_of_mean(values)


@pytest.mark.parametrize("clips", range(1, 6))
def test_few_clips_have_no_interval(clips: int) -> None:
    values = np.linspace(0.2, 0.4, clips)
    assert interval_of_mean(values) == {"value": pytest.approx(values.mean()), "low": None, "high": None}


@pytest.mark.parametrize(("clips", "share"), [(3, 0.75), (5, 0.83), (6, 0.86), (10, 0.90)])
def test_how_often_the_interval_holds_the_mean(clips: int, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "FEWEST", 2)
    values = np.random.default_rng(0).standard_normal((clips, 4000))
    means = resampling(clips)[1:] @ values / clips
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(share, abs=0.015)


def test_six_clips_are_enough_for_an_interval() -> None:
    found = interval_of_mean(np.linspace(0.2, 0.4, 6))
    assert 0.2 < found["low"] < 0.3 < found["high"] < 0.4


def test_a_score_that_many_resamples_lack_has_no_interval() -> None:
    values = np.full(1001, 0.5)
    assert figure(values)["low"] == 0.5
    values[1:200] = np.nan
    assert figure(values) == {"value": 0.5, "low": None, "high": None}
    values[0] = np.nan
    assert figure(values) == {"value": None, "low": None, "high": None}
