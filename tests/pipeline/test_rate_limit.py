import numpy as np
import pytest

from re2pix_node.pipeline.rate_limit import RateLimit

START, SECONDS = 10**18, 20


def taken(stamps, rate: float, limit: RateLimit | None = None) -> list[int]:
    limit = limit or RateLimit()
    return [int(stamp) for stamp in stamps if limit.takes(int(stamp), rate)]


def camera(rate: float, jitter: float = 0.001, seconds: float = SECONDS) -> np.ndarray:
    """The stamps of a camera; each may be so many seconds early or late."""
    count = round(seconds * rate)
    late = np.random.default_rng(0).uniform(-jitter, jitter, count)
    return (START + (np.arange(count) / rate + late) * 1e9).astype(int)


@pytest.mark.parametrize(
    ("sent", "rate", "every"),
    [(30, 10, 3), (30, 15, 2), (25, 10, 3), (60, 17, 4), (17, 5, 4), (17, 4, 5), (10, 10, 1)],
)
def test_every_nth_frame_is_taken(sent: int, rate: float, every: int) -> None:
    stamps = camera(sent)
    assert taken(stamps, rate) == stamps[::every].tolist()


def test_never_more_than_asked_for_and_no_less_than_every_nth() -> None:
    """Whatever rate the camera has: the limit is kept to 2.5% in the long run, and no frame is refused in vain."""
    for sent in range(3, 61, 3):
        for rate in (0.5, 2, 4.7, 10, 15, 29.97):
            count = len(taken(camera(sent, jitter=0.03 / sent), rate))
            assert count <= 1 + 1.025 * rate * SECONDS, (sent, rate)
            assert count >= SECONDS * sent / np.ceil(sent / rate) - 3, (sent, rate)


def test_a_camera_a_little_too_fast_is_halved_not_interrupted() -> None:
    stamps = camera(11)
    chosen = np.searchsorted(stamps, taken(stamps, 10))
    assert set(np.diff(chosen[2:])) == {2}


def test_a_camera_that_is_no_faster_than_the_rate_loses_nothing() -> None:
    stamps = [START + i * 10**8 for i in range(50)]
    assert taken(stamps, 10) == stamps
    assert taken(stamps, 11) == stamps
    assert taken(stamps, 0) == stamps
    for sent in (9.98, 10.02, 10.15):  # clocks differ
        assert taken(camera(sent, jitter=0.004), 10) == camera(sent, jitter=0.004).tolist()


def test_frames_that_get_lost_raise_no_rate() -> None:
    stamps = camera(30)
    arrived = stamps[np.random.default_rng(1).random(len(stamps)) > 0.3]
    chosen = taken(arrived, 10)
    assert len(chosen) <= 1 + 1.025 * 10 * SECONDS
    assert len(chosen) > 0.6 * 10 * SECONDS


def test_a_loop_and_a_gap_start_anew() -> None:
    first = [START + i * 10**8 for i in range(10)]
    assert taken([*first, *first], 5) == [*first[::2], *first[::2]]
    late = [stamp + 10**12 + 3 * 10**7 for stamp in first]
    assert taken([*first, *late], 5) == [*first[::2], *late[::2]]


def test_the_rate_may_change_on_the_way() -> None:
    limit = RateLimit()
    stamps = [START + i * 10**8 for i in range(30)]
    rates = [0.0] * 10 + [5.0] * 10 + [0.0] * 10
    chosen = [limit.takes(stamp, rate) for stamp, rate in zip(stamps, rates, strict=True)]
    assert chosen == [True] * 10 + [False, True] * 5 + [True] * 10
