"""Encodes footage once: a complete folder for each clip, or none. Several processes may fill one cache."""

import fcntl
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from re2pix_node.bundle.manifest import NANOSECONDS, UNLABELLED
from re2pix_node.common.atomic_write import remove, write_beside
from re2pix_node.errors import TrainingError
from re2pix_node.footage.clip import Clip
from re2pix_node.footage.clips import open_clips
from re2pix_node.footage.label_space import Group, LabelSpace, Mask
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.training.frame_encoder import FrameEncoder
from re2pix_node.training.progress import progress_bar
from re2pix_node.training.run_file import BackboneSpec, DataEntry

META = "meta.json"
AT_ONCE = 16  # frames in memory
ROOM = 100_000_000  # bytes that stay free for other programs
WAIT = 2.0  # seconds between checks of a clip that another process is encoding


@dataclass(frozen=True)
class CachedClip:
    """An encoded clip. Its arrays stay on the disk until they are used."""

    path: Path
    name: str
    space: LabelSpace
    groups: tuple[Group, ...]

    @cached_property
    def features(self) -> NDArray[np.float16]:  # [frames, h, w, channels]
        array: NDArray[np.float16] = np.load(self.path / "features.npy", mmap_mode="r")
        return array

    @cached_property
    def stamps(self) -> NDArray[np.int64]:
        array: NDArray[np.int64] = np.load(self.path / "stamps.npy")
        return array

    @cached_property
    def labelled(self) -> NDArray[np.int64]:
        """The frames to which the labels belong."""
        array: NDArray[np.int64] = np.load(self.path / "labelled.npy")
        return array

    @cached_property
    def labels(self) -> NDArray[np.uint8]:  # [labelled, H', W'], ids of the space, 255 = ignore
        array: NDArray[np.uint8] = np.load(self.path / "labels.npy", mmap_mode="r")
        return array


@dataclass(frozen=True)
class _Job:
    clip: Clip
    kept: list[int]  # indices of the frames that are encoded
    path: Path
    mirrored: bool

    @property
    def is_done(self) -> bool:
        return (self.path / META).is_file()


class FeatureCache:
    def __init__(self, folder: Path, backbone: BackboneSpec, encoder: FrameEncoder, identity: str) -> None:
        self._backbone = backbone
        self._encoder = encoder
        self._folder = folder / identity[:16]
        self.encoded = 0  # number of frames that this process has encoded

    def clips(self, entries: Sequence[DataEntry]) -> list[list[CachedClip]]:
        """The encoded clips of each entry; missing ones are encoded now."""
        jobs = [
            [
                self._job(clip, entry.rate, mirrored)
                for clip in open_clips(Path(entry.path))
                for mirrored in ((False, True) if entry.mirror else (False,))
            ]
            for entry in entries
        ]
        self._fill([job for of_entry in jobs for job in of_entry])
        return [[_read(job.path) for job in of_entry] for of_entry in jobs]

    def _job(self, clip: Clip, rate: float, mirrored: bool) -> _Job:
        kept = _kept(clip, rate)
        facts = f"{clip.identity()} {kept}{' mirrored' * mirrored}"
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", clip.name)[-80:]
        key = hashlib.sha256(facts.encode()).hexdigest()[:16]
        return _Job(clip, kept, self._folder / f"{name}-{key}", mirrored)

    def _fill(self, jobs: Sequence[_Job]) -> None:
        todo = list({job.path: job for job in jobs if not job.is_done}.values())
        if not todo:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        frames = sum(len(job.kept) for job in todo)
        self._encoder.expect(frames)
        with progress_bar("encoding", "frame", frames) as progress:
            while todo:
                left = [job for job in todo if not self._try(job, progress)]
                if len(left) == len(todo):  # other processes are encoding all of them
                    time.sleep(WAIT)
                todo = left

    def _try(self, job: _Job, progress: "tqdm[object]") -> bool:
        """Encode this clip; return False if another process is encoding it."""
        with _alone(job.path.with_name(f".lock-{job.path.name}")) as alone:
            if not alone:
                return False
            if job.is_done:
                progress.update(len(job.kept))
                return True
            for rest in job.path.parent.glob(f".partial-*-{job.path.name}"):  # left by a process that was killed
                remove(rest)
            with write_beside(job.path, replace=True) as folder:
                folder.mkdir()
                self._encode(job, folder, progress)
        return True

    def _encode(self, job: _Job, folder: Path, progress: "tqdm[object]") -> None:
        clip, spec = job.clip, self._backbone
        features = None
        with closing(clip.frames(job.kept)) as frames:
            for start in range(0, len(job.kept), AT_ONCE):
                count = min(AT_ONCE, len(job.kept) - start)
                fitted = [fit_frame(next(frames), spec.height, spec.width, spec.fit)[0] for _ in range(count)]
                stacked = np.stack(fitted)
                found = self._encoder(np.ascontiguousarray(stacked[:, :, ::-1]) if job.mirrored else stacked)
                if not np.isfinite(found).all():
                    raise TrainingError(
                        f"{clip.name}: the encoder gave features with NaN or infinity: check the weights"
                    )
                if features is None:
                    shape = (len(job.kept), *found.shape[1:])
                    _require_room(folder, 2 * int(np.prod(shape)))
                    features = _mapped(folder / "features.npy", np.float16, shape)
                features[start : start + count] = found
                self.encoded += count
                progress.set_postfix_str(clip.name, refresh=False)
                progress.update(count)
        assert features is not None
        features.flush()
        labelled = self._write_labels(job, folder)
        np.save(folder / "stamps.npy", np.array([clip.stamps[index] for index in job.kept], np.int64))
        np.save(folder / "labelled.npy", np.array(labelled, np.int64))
        groups = [(group.name, group.dataset, group.bundle) for group in clip.groups]
        meta = {
            "name": clip.name,
            "ids": clip.space.ids,
            "names": clip.space.names,
            "groups": groups,
            "engine": self._encoder.engine,
        }
        (folder / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def _write_labels(self, job: _Job, folder: Path) -> list[int]:
        place = {index: position for position, index in enumerate(job.kept)}
        labelled = [index for index in job.clip.labelled if index in place]
        height, width = self._backbone.height // self._backbone.mask, self._backbone.width // self._backbone.mask
        shape = (len(labelled), height, width)
        if not labelled:
            np.save(folder / "labels.npy", np.zeros(shape, np.uint8))
            return []
        labels = _mapped(folder / "labels.npy", np.uint8, shape)
        with closing(job.clip.label_frames(labelled)) as masks:
            for position, mask in enumerate(masks):
                fitted = fit_mask(mask, self._backbone, height, width)
                labels[position] = fitted[:, ::-1] if job.mirrored else fitted
        labels.flush()
        return [place[index] for index in labelled]


def _mapped(file: Path, kind: type[np.generic], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A new array in a file, written as it is filled."""
    make: Any = np.lib.format.open_memmap  # numpy has no types for it
    array: np.memmap[Any, Any] = make(file, "w+", kind, shape)
    return array


def _require_room(folder: Path, wanted: int) -> None:
    """Check for space first: a disk that gets full under a mapped file ends the process without a message."""
    free = shutil.disk_usage(folder).free
    if free < wanted + ROOM:
        raise TrainingError(
            f"{folder.parent}: a clip needs {wanted / 1e9:.2f} GB and {free / 1e9:.2f} are free: name another folder "
            "by `cache` in the run file, or thin out fast footage by `rate`"
        )


def fit_mask(mask: Mask, spec: BackboneSpec, height: int, width: int) -> Mask:
    """Labels of a frame at the size of a model's masks: cropped as `fit_frame` crops, with the nearest pixel."""
    _, region = fit_frame(np.zeros((*mask.shape, 3), np.uint8), spec.height, spec.width, spec.fit)
    rows = _nearest(region.y, region.height, height)
    columns = _nearest(region.x, region.width, width)
    fitted = np.asarray(mask[np.ix_(rows.clip(0, mask.shape[0] - 1), columns.clip(0, mask.shape[1] - 1))])
    fitted[(rows < 0) | (rows >= mask.shape[0])] = UNLABELLED
    fitted[:, (columns < 0) | (columns >= mask.shape[1])] = UNLABELLED
    return fitted


def _nearest(start: float, length: float, count: int) -> NDArray[np.int64]:
    """The pixels of a row at the middles of `count` equal parts of a stretch of it."""
    return np.floor(start + (np.arange(count) + 0.5) * length / count).astype(np.int64)


def _kept(clip: Clip, rate: float) -> list[int]:
    """Every n-th frame, so that at most `rate` a second remain, and all labelled frames if labels are rare."""
    if rate == 0 or len(clip) < 2:
        return list(range(len(clip)))
    period = float(np.median(np.diff(np.asarray(clip.stamps, np.int64)))) / NANOSECONDS
    every = max(1, int(np.ceil(1 / (period * rate) - 0.01)))
    kept = range(0, len(clip), every)
    return list(kept) if len(clip.labelled) == len(clip) else sorted({*kept, *clip.labelled})


def _read(path: Path) -> CachedClip:
    meta = json.loads((path / META).read_text(encoding="utf-8"))
    space = LabelSpace(tuple(meta["ids"]), tuple(meta["names"]))
    groups = tuple(Group(name, tuple(dataset), tuple(bundle)) for name, dataset, bundle in meta["groups"])
    return CachedClip(path, meta["name"], space, groups)


@contextmanager
def _alone(lock: Path) -> Iterator[bool]:
    """Take the lock, unless another process holds it; a process that dies releases its lock."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
