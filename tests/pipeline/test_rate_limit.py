import numpy as np
import pytest

from re2pix_node.pipeline.rate_limit import RateLimit


def taken(stamps, rate: float) -> list[int]:
    limit = RateLimit()
    return [int(stamp) for stamp in stamps if limit.takes(int(stamp), rate)]


@pytest.mark.parametrize(
    ("camera", "rate", "every"),
    [(30, 10, 3), (30, 15, 2), (25, 10, 3), (60, 17, 4), (17, 5, 4), (17, 4, 4)],
)
def test_every_nth_frame_is_taken_never_more_than_asked_for(camera: int, rate: float, every: int) -> None:
    jitter = np.random.default_rng(0).uniform(-0.001e9, 0.001e9, 20 * camera)
    stamps = (10**18 + np.arange(20 * camera) * (10**9 // camera) + jitter).astype(int)
    assert taken(stamps, rate) == stamps[::every].tolist()
    assert camera / every <= rate * 1.1


def test_a_camera_slower_than_the_rate_loses_nothing() -> None:
    stamps = [10**18 + i * 10**8 for i in range(50)]
    assert taken(stamps, 10) == stamps
    assert taken(stamps, 11) == stamps
    assert taken(stamps, 0) == stamps


def test_a_loop_and_a_gap_start_anew() -> None:
    first = [10**18 + i * 10**8 for i in range(10)]
    assert taken([*first, *first], 5) == [*first[::2], *first[::2]]
    late = [stamp + 10**12 + 3 * 10**7 for stamp in first]
    assert taken([*first, *late], 5) == [*first[::2], *late[::2]]


def test_the_rate_may_change_on_the_way() -> None:
    limit = RateLimit()
    stamps = [10**18 + i * 10**8 for i in range(30)]
    rates = [0.0] * 10 + [5.0] * 10 + [0.0] * 10
    chosen = [limit.takes(stamp, rate) for stamp, rate in zip(stamps, rates, strict=True)]
    assert chosen == [True] * 10 + [False, True] * 5 + [True] * 10
