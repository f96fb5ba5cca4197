"""From footage to samples: a context of frames and the frames after it, chosen by time. See docs/data.md."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from re2pix_node.bundle.manifest import TimeSpec
from re2pix_node.errors import DataError
from re2pix_node.footage.bag_clips import BAG_SUFFIXES, bag_clips
from re2pix_node.footage.cityscapes import cityscapes_clips, cityscapes_root
from re2pix_node.footage.clip import Clip
from re2pix_node.footage.dataset_yaml import SETTINGS, DatasetSettings, read_settings
from re2pix_node.footage.folder_clips import PICTURE_SUFFIXES, folder_clips
from re2pix_node.footage.label_space import LabelSpace, Mask
from re2pix_node.footage.video_clips import VIDEO_SUFFIXES, video_clip
from re2pix_node.imaging.decode import Picture
from re2pix_node.pipeline.buffer import FrameBuffer
from re2pix_node.pipeline.pipeline import timing_of

__all__ = ["Clip", "DataError", "LabelSpace", "Sample", "open_clips", "samples"]


@dataclass(frozen=True)
class Sample:
    """The input of a forecaster at one moment, and the true future. Stamps in ns."""

    clip: str
    context: tuple[Picture, ...]  # oldest first
    context_stamps: tuple[int, ...]
    spacing: int  # ns, the spacing that was really used
    future: tuple[Picture, ...]  # one for each horizon
    future_stamps: tuple[int, ...]
    now_labels: Mask | None
    future_labels: tuple[Mask | None, ...]


def open_clips(path: Path, topic: str | None = None) -> list[Clip]:
    """All footage at `path`, sorted: a file, or a folder of any layout in docs/data.md.

    `topic` chooses the camera of recordings that have several.
    """
    try:
        return _open_clips(Path(path), topic)
    except OSError as error:
        where = error.filename or path
        raise DataError(f"{where}: cannot be read ({error.strerror}): check it and its permissions") from error


def _open_clips(path: Path, topic: str | None) -> list[Clip]:
    if not path.exists():
        raise DataError(f"{path}: does not exist: check the path")
    beside = read_settings(path.parent) if path.is_file() or _is_bag(path) else DatasetSettings()
    if beside.images:  # it describes a folder of frames, not the files beside it
        beside = DatasetSettings()
    clips = _clips_at(path, beside, topic, set())
    if not clips:
        pictures = path.is_dir() and any(file.suffix.lower() in PICTURE_SUFFIXES for file in path.iterdir())
        raise DataError(
            f"{path}: holds pictures, but no {SETTINGS} with their rate: write one (docs/data.md)"
            if pictures
            else f"{path}: holds no recording, video ({' '.join(VIDEO_SUFFIXES)}), {SETTINGS} or Cityscapes layout"
        )
    _name_uniquely(clips)
    return [clip for clip, _ in clips]


def _clips_at(path: Path, settings: DatasetSettings, topic: str | None, seen: set[Path]) -> list[tuple[Clip, Path]]:
    """The clips at or below `path`, each with its own path."""
    if path.is_dir():
        own = read_settings(path)
        settings = own if own.file else settings
    if _is_bag(path):
        found = bag_clips(path, settings, topic)
    elif path.is_file():
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            raise DataError(f"{path}: is neither a recording nor a video ({' '.join(VIDEO_SUFFIXES)}): convert it")
        found = [video_clip(path, settings)]
    elif settings.images:
        found = folder_clips(settings)
    elif cityscapes_root(path):
        found = cityscapes_clips(path, settings)
    else:
        return _clips_below(path, settings, topic, seen)
    return [(clip, path) for clip in found]


def _clips_below(path: Path, settings: DatasetSettings, topic: str | None, seen: set[Path]) -> list[tuple[Clip, Path]]:
    if path.resolve() in seen:  # links that form a circle
        return []
    seen.add(path.resolve())
    clips = []
    for child in sorted(child for child in path.iterdir() if not child.name.startswith(".")):
        if child.is_dir() or _is_bag(child) or child.suffix.lower() in VIDEO_SUFFIXES:
            clips += _clips_at(child, settings, topic, seen)
    return clips


def _is_bag(path: Path) -> bool:
    # A folder of bag files without metadata is not one recording: each file is one.
    return (path / "metadata.yaml").is_file() if path.is_dir() else path.name.endswith(BAG_SUFFIXES)


def _name_uniquely(clips: Sequence[tuple[Clip, Path]]) -> None:
    counts = Counter(clip.name for clip, _ in clips)
    for clip, path in clips:
        if counts[clip.name] > 1:
            clip.name = f"{path.resolve().parent}: {clip.name}"


@dataclass(frozen=True)
class _Moment:
    """A sample as indices of frames."""

    context: tuple[int, ...]
    spacing: int
    future: tuple[int, ...]

    @property
    def judged(self) -> tuple[int, ...]:
        """Frames whose labels are needed: the newest of the context, and the future."""
        return (self.context[-1], *self.future)


def samples(clip: Clip, time: TimeSpec, every: int = 1, labelled_only: bool = False) -> Iterator[Sample]:
    """Yield a sample for each n-th moment with a context, as at run time, and a frame at every horizon.

    With `labelled_only`, only moments where the newest or a future frame has labels are counted. Frames are read once
    and dropped when no sample needs them any more; samples share them, so do not write into them.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, is {every}")
    labelled = frozenset(clip.labelled)
    moments = [
        moment for moment in _moments(clip.stamps, time) if not labelled_only or not labelled.isdisjoint(moment.judged)
    ][::every]
    needed = sorted({index for moment in moments for index in (*moment.context, *moment.future)})
    with_labels = {index for moment in moments for index in moment.judged} & labelled
    # A later moment may need older frames than an earlier one, when the camera starts to offer a better spacing.
    reach = list(accumulate((moment.context[0] for moment in reversed(moments)), min))[::-1]
    frames: dict[int, Picture] = {}
    masks: dict[int, Mask] = {}
    upcoming = iter(needed)
    with closing(clip.frames(needed)) as new_frames, closing(clip.label_frames(sorted(with_labels))) as new_masks:
        for moment, oldest in zip(moments, reach, strict=True):
            for index in [index for index in frames if index < oldest]:
                del frames[index]
                masks.pop(index, None)
            while moment.future[-1] not in frames:
                index = next(upcoming)
                frames[index] = next(new_frames)
                if index in with_labels:
                    masks[index] = next(new_masks)
            yield _sample(clip, moment, frames, masks)


def _sample(clip: Clip, moment: _Moment, frames: dict[int, Picture], masks: dict[int, Mask]) -> Sample:
    now, *future = (masks.get(index) for index in moment.judged)
    return Sample(
        clip=clip.name,
        context=tuple(frames[index] for index in moment.context),
        context_stamps=tuple(clip.stamps[index] for index in moment.context),
        spacing=moment.spacing,
        future=tuple(frames[index] for index in moment.future),
        future_stamps=tuple(clip.stamps[index] for index in moment.future),
        now_labels=now,
        future_labels=tuple(future),
    )


def _moments(stamps: Sequence[int], time: TimeSpec) -> Iterator[_Moment]:
    timing = timing_of(time)
    buffer: FrameBuffer[int] = FrameBuffer(timing)
    for index, stamp in enumerate(stamps):
        buffer.push(stamp, index)
        context = buffer.context()
        if context is None:
            continue
        times = [stamp + step * context.spacing for step in time.horizons]
        future = [_nearest(stamps, moment) for moment in times]
        if all(abs(stamps[pick] - moment) <= timing.jitter for pick, moment in zip(future, times, strict=True)):
            yield _Moment(context.frames, context.spacing, tuple(future))


def _nearest(stamps: Sequence[int], time: int) -> int:
    """Index of the stamp nearest to a time; the earlier one of two equally near stamps."""
    after = bisect_left(stamps, time)
    if after == len(stamps):
        return after - 1
    return after if after == 0 or stamps[after] - time < time - stamps[after - 1] else after - 1
