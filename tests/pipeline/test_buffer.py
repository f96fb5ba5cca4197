import itertools
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from re2pix_node.pipeline.buffer import FRAMES_PER_STRIDE, Arrival, FrameBuffer, Timing

SECOND = 1_000_000_000
MS = 1_000_000
# As the published forecasters are trained.
DRIVE = Timing(context=4, stride=180 * MS, stride_min=120 * MS, stride_max=240 * MS, jitter=20 * MS)


def camera(hz, count, start=0):
    return [start + round(i * SECOND / hz) for i in range(count)]


def run(buffer, stamps):
    """Pushes frames that are named by their position; the context after each."""
    contexts = []
    for i, stamp in enumerate(stamps):
        buffer.push(stamp, i)
        contexts.append(buffer.context())
    return contexts


def breaks_rules(stamps, timing):
    """The faults of these stamps as a context, in exact arithmetic; empty if there are none."""
    if len(stamps) != timing.context:
        return f"{len(stamps)} frames"
    if any(a >= b for a, b in itertools.pairwise(stamps)):
        return "does not run forwards"
    if timing.context == 1:
        return ""
    spacing = Fraction(stamps[-1] - stamps[0], timing.context - 1)
    if not timing.stride_min <= spacing <= timing.stride_max:
        return f"spacing {spacing}"
    off = max(abs(stamps[-1] - m * spacing - stamp) for m, stamp in enumerate(reversed(stamps)))
    return f"{off} off the grid" if off > timing.jitter else ""


def all_contexts(stamps, timing):
    """Every context that the newest of these stamps could head, by trying all."""
    earlier = itertools.combinations(stamps[:-1], timing.context - 1)
    return [picked for pick in earlier if not breaks_rules(picked := (*pick, stamps[-1]), timing)]


@pytest.mark.parametrize(
    ("hz", "every"), [(60, 11), (50, 9), (30, 5), (29.97, 5), (25, 4), (17, 3), (15, 3), (10, 2), (5, 1)]
)
def test_the_spacing_is_the_offered_one_nearest_to_nominal(hz, every):
    contexts = run(FrameBuffer(DRIVE), camera(hz, 200))
    first = 3 * every
    # Shorter spacings serve only until the camera has run long enough for the wanted one.
    for newest in range(first, 200):
        context = contexts[newest]
        assert context.frames == tuple(newest - m * every for m in (3, 2, 1, 0))
        assert context.spacing == pytest.approx(every * SECOND / hz, abs=1)


@pytest.mark.parametrize("hz", [4, 3, 1])
def test_a_camera_slower_than_the_longest_stride_has_no_context(hz):
    assert run(FrameBuffer(DRIVE), camera(hz, 50)) == [None] * 50


def test_no_context_before_the_camera_has_run_long_enough():
    contexts = run(FrameBuffer(DRIVE), camera(10, 8))
    assert contexts[:6] == [None] * 6
    assert contexts[6].frames == (0, 2, 4, 6)


@pytest.mark.parametrize(("hz", "every"), [(60, 11), (30, 5), (25, 4), (17, 3), (10, 2)])
def test_noise_in_the_stamps_does_not_change_the_step(hz, every):
    noise = random.Random(5)
    stamps = [stamp + noise.randint(-400_000, 400_000) for stamp in camera(hz, 300, start=SECOND)]
    for newest, context in list(enumerate(run(FrameBuffer(DRIVE), stamps)))[3 * every :]:
        assert context.frames == tuple(newest - m * every for m in (3, 2, 1, 0))


def test_a_dropped_frame_makes_way_for_the_next_nearest_spacing():
    stamps = camera(30, 40)
    del stamps[39 - 5]
    context = run(FrameBuffer(DRIVE), stamps)[-1]
    assert context.stamps == tuple(round(i * SECOND / 30) for i in (21, 27, 33, 39))
    assert context.spacing == 200 * MS


@pytest.mark.parametrize(("hz", "share"), [(60, 0.99), (30, 0.97), (17, 0.8), (10, 0.5)])
def test_random_drops_cost_few_contexts_and_none_is_bad(hz, share):
    dice = random.Random(11)
    stamps = [stamp for stamp in camera(hz, 2000) if dice.random() > 0.15]
    contexts = run(FrameBuffer(DRIVE), stamps)[hz:]
    found = [context for context in contexts if context]
    assert all(breaks_rules(context.stamps, DRIVE) == "" for context in found)
    assert len(found) > share * len(contexts)


@pytest.mark.parametrize(("off", "found"), [(20 * MS, True), (20 * MS + 1, False), (-20 * MS, True)])
def test_jitter_is_tolerated_up_to_the_limit_and_no_further(off, found):
    timing = Timing(context=3, stride=180 * MS, stride_min=120 * MS, stride_max=240 * MS, jitter=20 * MS)
    context = run(FrameBuffer(timing), [0, 180 * MS + off, 360 * MS])[-1]
    assert (context is not None) == found


@pytest.mark.parametrize("stamps", [(0, 140, 240), (0, 100, 240), (0, 220, 480), (0, 260, 480)])
def test_jitter_may_take_a_single_step_out_of_the_range(stamps):
    timing = Timing(context=3, stride=180, stride_min=120, stride_max=240, jitter=20)
    assert run(FrameBuffer(timing), stamps)[-1].stamps == stamps


@pytest.mark.parametrize(("newest", "spacing"), [(540, 180), (541, 180), (542, 181)])
def test_the_spacing_is_the_mean_to_the_nearest_nanosecond(newest, spacing):
    timing = Timing(context=4, stride=180, stride_min=120, stride_max=240, jitter=20)
    assert run(FrameBuffer(timing), [0, 180, 360, newest])[-1].spacing == spacing


def test_ties_go_to_the_newer_frame():
    two = Timing(context=2, stride=20, stride_min=10, stride_max=30, jitter=0)
    assert run(FrameBuffer(two), [5, 15, 30])[-1].stamps == (15, 30)
    three = Timing(context=3, stride=180, stride_min=120, stride_max=240, jitter=20)
    assert run(FrameBuffer(three), [30, 50, 220, 400])[-1].stamps == (50, 220, 400)


@pytest.mark.parametrize(("spacing", "found"), [(119, False), (120, True), (240, True), (241, False)])
def test_the_ends_of_the_range_belong_to_it(spacing, found):
    context = run(FrameBuffer(DRIVE), [i * spacing * MS for i in range(4)])[-1]
    assert (context is not None) == found


def test_a_repeated_stamp_is_ignored():
    buffer = FrameBuffer(DRIVE)
    run(buffer, camera(10, 7))
    before = buffer.context(), len(buffer)
    assert buffer.push(buffer.newest, "again") is Arrival.REPEATED
    assert (buffer.context(), len(buffer)) == before


def test_a_looping_bag_starts_anew():
    buffer = FrameBuffer(DRIVE)
    drive = camera(10, 20, start=5 * SECOND)
    once = run(buffer, drive)
    assert buffer.push(drive[0], 0) is Arrival.JUMPED_BACK
    assert len(buffer) == 1
    again = [None]
    for i, stamp in enumerate(drive[1:], start=1):
        assert buffer.push(stamp, i) is Arrival.IN_ORDER
        again.append(buffer.context())
    assert again == once


@pytest.mark.parametrize(
    ("stamps", "jitter"),
    [
        ([0, 240], 20),  # both frames lie on the grid
        ([0, 220, 480], 20),  # the middle one is off
        ([0, 220, 500, 720], 20),  # two are off, away from each other
        ([0, 240, 460, 740, 960], 20),
    ],
)
def test_a_gap_is_one_that_no_context_can_straddle(stamps, jitter):
    timing = Timing(len(stamps), stride=180, stride_min=120, stride_max=240, jitter=jitter)
    gaps = [b - a for a, b in itertools.pairwise(stamps)]
    assert run(FrameBuffer(timing), stamps)[-1].stamps == tuple(stamps)
    at_limit, beyond = FrameBuffer(timing), FrameBuffer(timing)
    at_limit.push(0, "a")
    beyond.push(0, "a")
    assert at_limit.push(max(gaps), "b") is Arrival.IN_ORDER
    assert beyond.push(max(gaps) + 1, "b") is Arrival.AFTER_GAP
    assert (len(at_limit), len(beyond)) == (2, 1)


def test_forecasting_resumes_after_a_gap():
    buffer = FrameBuffer(DRIVE)
    run(buffer, camera(10, 20))
    assert buffer.push(5 * SECOND, "first") is Arrival.AFTER_GAP
    after = run(buffer, camera(10, 10, start=5 * SECOND + 100 * MS))
    assert after[:5] == [None] * 5
    assert after[5].frames == ("first", 1, 3, 5)


def test_a_first_frame_stamped_zero_is_an_ordinary_frame():
    buffer = FrameBuffer(DRIVE)
    assert buffer.newest is None
    assert buffer.push(0, "zero") is Arrival.IN_ORDER
    assert buffer.newest == 0
    assert buffer.push(0, "zero again") is Arrival.REPEATED
    for i in (1, 2, 3):
        assert buffer.push(i * 180 * MS, i) is Arrival.IN_ORDER
    assert buffer.context().frames == ("zero", 1, 2, 3)
    assert buffer.push(0, "zero") is Arrival.JUMPED_BACK
    assert len(buffer) == 1


def test_a_negative_stamp_is_refused_and_changes_nothing():
    buffer = FrameBuffer(DRIVE)
    buffer.push(7, "seven")
    with pytest.raises(ValueError, match="stamp must not be negative, is -1"):
        buffer.push(-1, "bad")
    assert (buffer.newest, len(buffer)) == (7, 1)


def test_a_context_of_one_frame_is_the_newest():
    buffer = FrameBuffer(Timing(context=1, stride=180, stride_min=120, stride_max=240, jitter=10))
    for stamp in (0, 1, 5, 100_000):
        assert buffer.push(stamp, f"frame {stamp}") is Arrival.IN_ORDER
        context = buffer.context()
        assert (context.frames, context.stamps, context.spacing) == ((f"frame {stamp}",), (stamp,), 180)
        assert len(buffer) == 1


def test_clear_forgets_everything():
    buffer = FrameBuffer(DRIVE)
    run(buffer, camera(10, 20))
    buffer.clear()
    assert (len(buffer), buffer.newest, buffer.context()) == (0, None, None)
    assert buffer.push(0, "earlier than before") is Arrival.IN_ORDER


@pytest.mark.parametrize("hz", [500, 1000, 10_000])
def test_an_absurd_rate_neither_fills_the_memory_nor_ends_forecasts(hz):
    buffer = FrameBuffer(DRIVE)
    stamps = camera(hz, hz)
    for i, context in enumerate(run(buffer, stamps)):
        if stamps[i] > 3 * DRIVE.stride + 2 * DRIVE.jitter:
            assert breaks_rules(context.stamps, DRIVE) == ""
            assert context.spacing == pytest.approx(DRIVE.stride, rel=0.03)
    assert len(buffer) == 1 + 3 * FRAMES_PER_STRIDE


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"context": 0}, "context must be at least 1, is 0"),
        ({"stride_min": 0}, "stride_min must be positive, is 0"),
        ({"stride": 119}, "stride must lie from 120 to 240, is 119"),
        ({"stride": 241}, "stride must lie from 120 to 240, is 241"),
        ({"stride_max": 100}, "stride must lie from 120 to 100, is 180"),
        ({"jitter": -1}, "jitter must lie from 0 to below half of 120, is -1"),
        ({"jitter": 60}, "jitter must lie from 0 to below half of 120, is 60"),
    ],
)
def test_timing_names_the_bad_field(changed, message):
    good = {"context": 4, "stride": 180, "stride_min": 120, "stride_max": 240, "jitter": 59}
    Timing(**good)
    with pytest.raises(ValueError, match=message):
        Timing(**(good | changed))


@st.composite
def timings(draw, longest=5):
    low = draw(st.integers(1, 30))
    high = draw(st.integers(low, 60))
    return Timing(
        draw(st.integers(1, longest)), draw(st.integers(low, high)), low, high, draw(st.integers(0, (low - 1) // 2))
    )


# Steps of a steady camera, near misses, repeats, jumps back (to before zero too: they are clipped), gaps.
steps = st.one_of(st.integers(1, 12), st.integers(1, 70), st.just(0), st.integers(-300, -1), st.integers(70, 2000))


def stamps_from(moves):
    return list(itertools.accumulate(moves, lambda stamp, move: max(0, stamp + move), initial=0))


@settings(max_examples=400, deadline=None)
@given(timings(), st.lists(steps, max_size=60))
def test_whatever_comes_no_context_is_bad(timing, moves):
    buffer = FrameBuffer(timing)
    pushed = {}
    for i, stamp in enumerate(stamps_from(moves)):
        if buffer.push(stamp, i) is not Arrival.REPEATED:
            pushed[i] = stamp
        context = buffer.context()
        assert len(buffer) <= 1 + FRAMES_PER_STRIDE * (timing.context - 1)
        assert buffer.newest == stamp
        if context:
            assert context.stamps[-1] == stamp
            assert breaks_rules(context.stamps, timing) == ""
            assert [pushed[frame] for frame in context.frames] == list(context.stamps)
            assert list(context.frames) == sorted(context.frames)
            assert timing.stride_min <= context.spacing <= timing.stride_max
            if timing.context > 1:
                span = context.stamps[-1] - context.stamps[0]
                assert abs(context.spacing - Fraction(span, timing.context - 1)) <= Fraction(1, 2)


@settings(max_examples=400, deadline=None)
@given(timings(), st.integers(1, 20), st.lists(st.booleans(), min_size=8, max_size=50))
def test_an_even_context_is_found_wherever_there_is_one(timing, period, came):
    """A steady camera that drops frames: many even contexts, often not the nearest to nominal."""
    buffer = FrameBuffer(timing)
    seen = []
    for i in (i for i, there in enumerate(came) if there):
        seen.append(i * period)
        buffer.push(seen[-1], i)
        even = [
            spacing
            for spacing in range(timing.stride_min, timing.stride_max + 1)
            if all(seen[-1] - m * spacing in seen for m in range(timing.context))
        ]
        context = buffer.context()
        if even:
            assert context is not None
        elif timing.jitter == 0:
            assert context is None
        if context and timing.jitter == 0 and timing.context > 1:
            assert abs(context.spacing - timing.stride) <= min(abs(s - timing.stride) for s in even)


@settings(max_examples=300, deadline=None)
@given(timings(longest=4), st.lists(st.integers(1, 70), min_size=3, max_size=11))
def test_what_is_forgotten_no_context_could_use(timing, moves):
    """Over all frames ever pushed, whether kept or not: no context has a forgotten frame, or straddles a gap."""
    buffer = FrameBuffer(timing)
    seen = []
    after_gap = 0
    for stamp in stamps_from(moves):
        seen.append(stamp)
        if buffer.push(stamp, stamp) is Arrival.AFTER_GAP:
            after_gap = stamp
        possible = all_contexts(seen, timing)
        kept = seen[-len(buffer) :]
        assert stamp - kept[0] <= (timing.context - 1) * timing.stride_max
        assert all(picked[0] >= max(after_gap, kept[0]) for picked in possible)
        if not possible:
            assert buffer.context() is None
