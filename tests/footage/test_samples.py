"""Samples: which frames at which times, and that footage is read once."""

import dataclasses
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from re2pix_node.footage import video_clips
from re2pix_node.footage.clips import Clip, open_clips, samples
from re2pix_node.footage.label_space import CITYSCAPES, plain_map
from re2pix_node.pipeline.buffer import FrameBuffer
from re2pix_node.pipeline.pipeline import timing_of
from tests.support.made_footage import (
    SPEC,
    START,
    mask,
    number_in,
    picture,
    stamps_at,
    write_bag,
    write_labels,
    write_video,
)


class Painted:
    """A source that paints requested pictures and remembers the requests."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def pictures(self, indices):
        for index in indices:
            self.read.append(index)
            yield picture(index % 256)

    def labels(self, indices):
        for index in indices:
            yield mask(index)

    def place(self, index: int) -> str:
        return f"frame {index}"

    label_place = place


def painted_clip(stamps, labelled=()) -> Clip:
    return Clip("painted", stamps, labelled, Painted(), plain_map(CITYSCAPES))


def numbers(frames) -> tuple[int, ...]:
    return tuple(number_in(frame) for frame in frames)


def as_at_run_time(stamps) -> dict[int, tuple[tuple[int, ...], int]]:
    """By newest frame: the numbers of the context and its spacing, from a buffer that gets frame by frame."""
    buffer: FrameBuffer[int] = FrameBuffer(timing_of(SPEC))
    contexts = {}
    for number, stamp in enumerate(stamps):
        buffer.push(stamp, number)
        context = buffer.context()
        if context:
            contexts[number] = (context.frames, context.spacing)
    return contexts


@pytest.mark.parametrize(("rate", "step"), [(17, 3), (30, 5), (10, 2), (25, 4)])
@pytest.mark.parametrize("kind", ["video", "bag"])
def test_a_sample_is_the_run_times_context_and_what_came_after(kind: str, rate: int, step: int, tmp_path: Path) -> None:
    count = 60
    if kind == "video":
        write_video(tmp_path / "drive.mp4", rate, count)
        stamps = stamps_at(rate, count, start=0)
    else:
        stamps = stamps_at(rate, count)
        write_bag(tmp_path / "drive", stamps)
    (clip,) = open_clips(tmp_path)
    np.testing.assert_allclose(clip.stamps, stamps, atol=100)
    expected = as_at_run_time(clip.stamps)
    seen = set()
    for sample in samples(clip, SPEC):
        *_, head = context = numbers(sample.context)
        seen.add(head)
        assert (context, sample.spacing) == expected[head]
        assert sample.context_stamps == tuple(clip.stamps[number] for number in context)
        # The rate is even: the future is as many frames ahead as the last step back.
        frames_a_step = round(sample.spacing * rate / 1e9)
        assert numbers(sample.future) == tuple(head + horizon * frames_a_step for horizon in SPEC.horizons)
        for horizon, stamp in zip(SPEC.horizons, sample.future_stamps, strict=True):
            assert abs(stamp - (clip.stamps[head] + horizon * sample.spacing)) < 1000
    last = max(seen)
    assert seen == {head for head in expected if head <= last}
    # To the very end, at the spacing nearest to the stride.
    assert last == count - 1 - 3 * step
    assert expected[last][0] == tuple(last - back * step for back in (3, 2, 1, 0))


def test_every_takes_each_nth_moment(tmp_path: Path) -> None:
    clip = painted_clip(stamps_at(17, 60))
    heads = [sample.context_stamps[-1] for sample in samples(clip, SPEC)]
    assert [sample.context_stamps[-1] for sample in samples(clip, SPEC, every=4)] == heads[::4]
    with pytest.raises(ValueError, match="every"):
        next(samples(clip, SPEC, every=0))


def test_nothing_straddles_a_gap() -> None:
    stamps = stamps_at(17, 40)
    stamps += stamps_at(17, 40, start=stamps[-1] + 5 * 10**9)
    found = [numbers([*sample.context, *sample.future]) for sample in samples(painted_clip(stamps), SPEC)]
    assert found
    assert all(max(frames) < 40 or min(frames) >= 40 for frames in found)
    assert len(found) == 2 * len(list(samples(painted_clip(stamps[:40]), SPEC)))


def test_a_moment_without_one_of_its_future_frames_is_no_sample() -> None:
    stamps = stamps_at(17, 60)
    lost = 40
    kept = [index for index in range(60) if index != lost]
    clip = painted_clip([stamps[index] for index in kept])
    heads = {sample.context_stamps[-1] for sample in samples(clip, SPEC)}
    # A frame is 59 ms, the tolerance 20 ms: no neighbour stands in.
    assert not heads & {stamps[lost - 3 * horizon] for horizon in SPEC.horizons}
    assert stamps[lost - 4] in heads


def test_the_future_is_the_frame_nearest_in_time() -> None:
    rng = np.random.default_rng(3)
    stamps = [stamp + int(rng.integers(-8_000_000, 8_000_000)) for stamp in stamps_at(30, 120)]
    found = list(samples(painted_clip(stamps), SPEC))
    assert len(found) > 50
    for sample in found:
        for horizon, stamp in zip(SPEC.horizons, sample.future_stamps, strict=True):
            wanted = sample.context_stamps[-1] + horizon * sample.spacing
            assert stamp == min(stamps, key=lambda other, wanted=wanted: abs(other - wanted))
            assert abs(stamp - wanted) <= 20_000_000


def test_labels_line_up_with_frames() -> None:
    labelled = list(range(0, 90, 2))
    for sample in samples(painted_clip(stamps_at(30, 90), labelled), SPEC):
        frames = [sample.context[-1], *sample.future]
        for frame, labels in zip(frames, [sample.now_labels, *sample.future_labels], strict=True):
            number = number_in(frame)
            assert (labels is None) == (number % 2 == 1)
            if labels is not None:
                np.testing.assert_array_equal(labels, mask(number))


def test_labelled_only() -> None:
    clip = painted_clip(stamps_at(17, 30), labelled=[19])
    found = list(samples(clip, SPEC, labelled_only=True))
    assert [number_in(sample.context[-1]) for sample in found] == [10, 13, 16, 19]
    assert [[labels is not None for labels in (s.now_labels, *s.future_labels)] for s in found] == [
        [False, False, False, True],
        [False, False, True, False],
        [False, True, False, False],
        [True, False, False, False],
    ]
    # every counts those that qualify
    assert [number_in(s.context[-1]) for s in samples(clip, SPEC, every=2, labelled_only=True)] == [10, 16]


def test_a_context_of_one_frame() -> None:
    spec = dataclasses.replace(SPEC, context=1)
    found = list(samples(painted_clip(stamps_at(17, 30)), spec))
    assert numbers(found[0].context) == (0,)
    assert numbers(found[0].future) == (3, 6, 9)


def test_frames_are_read_once_and_only_when_needed() -> None:
    clip = painted_clip(stamps_at(30, 300), labelled=range(300))
    source = clip._source
    assert len(list(samples(clip, SPEC))) > 200
    assert source.read == list(range(300))
    source.read.clear()
    found = list(samples(clip, SPEC, every=50))
    assert len(source.read) <= len(found) * 7
    assert source.read == sorted(set(source.read))


def test_an_hour_is_not_held_in_memory() -> None:
    clip = painted_clip(stamps_at(17, 3000), labelled=range(3000))
    tracemalloc.start()
    for _ in samples(clip, SPEC):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000  # all frames and labels are 37 MB


@pytest.mark.parametrize("use", ["all", "some"])
def test_a_video_is_decoded_once(use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "drive.mp4", 30, 120)
    write_labels(tmp_path / "drive.mp4", 30, 120)
    (clip,) = open_clips(tmp_path)
    opened = []

    class Counting:
        """Counts what is decoded; no subclass, because garbage collection of one crashes in OpenCV 4.11."""

        def __init__(self, *options) -> None:
            self.capture = video_capture(*options)
            self.grabs = 0
            opened.append(self)

        def grab(self) -> bool:
            self.grabs += 1
            return self.capture.grab()

        def __getattr__(self, name: str):
            return getattr(self.capture, name)

    video_capture = cv2.VideoCapture
    monkeypatch.setattr(video_clips.cv2, "VideoCapture", Counting)
    assert len(list(samples(clip, SPEC, every=1 if use == "all" else 20))) > 2
    (capture,) = opened
    assert 60 < capture.grabs <= 120


def test_a_recording_that_loops_gives_a_clip_for_each_round(tmp_path: Path) -> None:
    once = stamps_at(17, 40)
    write_bag(tmp_path / "looped", [*once, *once], {number: mask(number) for number in range(80)})
    first, second = open_clips(tmp_path / "looped")
    assert second.name == f"{first.name}#2"
    assert list(first.stamps) == list(second.stamps) == once
    for clip, offset in ((first, 0), (second, 40)):
        (labels,) = {int(sample.now_labels[0, 0]) for sample in [next(samples(clip, SPEC))]}
        head = number_in(next(samples(clip, SPEC)).context[-1])
        assert labels == head % 19
        assert head >= offset
        assert number_in(clip.frame(39)) == offset + 39


def test_repeated_stamps_are_left_out_as_the_node_does(tmp_path: Path) -> None:
    stamps = stamps_at(17, 20)
    write_bag(tmp_path / "drive", [*stamps[:5], stamps[4], *stamps[5:]])
    (clip,) = open_clips(tmp_path / "drive")
    assert list(clip.stamps) == stamps
    assert numbers(clip.frames(range(20))) == (0, 1, 2, 3, 4, *range(6, 21))


def test_stamps_are_whole_and_indices_checked(tmp_path: Path) -> None:
    clip = painted_clip(stamps_at(17, 20))
    assert clip.stamps[0] == START
    for wrong in ([3, 2], [2, 2], [-1], [20]):
        with pytest.raises(ValueError, match="must rise"):
            next(clip.frames(wrong))
    assert clip.labels(3) is None
