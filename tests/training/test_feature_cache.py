"""Footage is encoded once, clip by clip, by whichever process comes first."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from re2pix_node.errors import TrainingError
from re2pix_node.footage.clips import open_clips
from re2pix_node.training import feature_cache
from re2pix_node.training.feature_cache import FeatureCache, fit_mask
from re2pix_node.training.frame_encoder import FrameEncoder
from re2pix_node.training.run_file import BackboneSpec, DataEntry
from tests.support.made_footage import write_labels, write_video
from tests.support.made_runs import CLASSES, HEIGHT, WIDTH, own_mask, write_pictures

SPEC = BackboneSpec("weights.pt", HEIGHT, WIDTH, mask=4)


class Colours(torch.nn.Module):
    """Mean colour of each cell: an encoder that takes no time."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(frames.float().permute(0, 3, 1, 2), 8).permute(0, 2, 3, 1)


def cache_at(folder: Path, identity: str = "a" * 64, spec: BackboneSpec = SPEC) -> FeatureCache:
    encoder = FrameEncoder(Colours(), spec.height, spec.width)
    encoder._run = lambda frames: Colours()(torch.from_numpy(frames)).numpy()
    return FeatureCache(folder, spec, encoder, identity)


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "drive", frames=10)


def test_features_stamps_and_labels_are_those_of_the_footage(tmp_path: Path, drive: Path) -> None:
    [[clip]] = cache_at(tmp_path / "cache").clips([DataEntry(str(drive))])
    [source] = open_clips(drive)
    assert clip.stamps.tolist() == list(source.stamps)
    assert clip.features.shape == (10, HEIGHT // 8, WIDTH // 8, 3)
    expected = source.frame(7).reshape(HEIGHT // 8, 8, WIDTH // 8, 8, 3).mean((1, 3))
    np.testing.assert_allclose(clip.features[7], expected, atol=0.1)
    assert clip.labelled.tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_array_equal(clip.labels[3], own_mask(source.frame(6))[2::4, 2::4])
    assert dict(zip(clip.space.ids, clip.space.names, strict=True)) == CLASSES


def test_a_second_pass_computes_nothing(tmp_path: Path, drive: Path) -> None:
    first, second = cache_at(tmp_path / "cache"), cache_at(tmp_path / "cache")
    first.clips([DataEntry(str(drive))])
    clips = second.clips([DataEntry(str(drive)), DataEntry(str(drive), weight=3)])
    assert (first.encoded, second.encoded) == (10, 0)
    assert clips[0] == clips[1]


def test_what_changes_is_encoded_again_and_nothing_else(tmp_path: Path, drive: Path) -> None:
    write_pictures(tmp_path / "other", frames=6)
    entries = [DataEntry(str(drive)), DataEntry(str(tmp_path / "other"))]
    cache_at(tmp_path / "cache").clips(entries)
    file = drive / "labels/004.png"
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    changed = cache_at(tmp_path / "cache")
    changed.clips(entries)
    assert changed.encoded == 10
    another = cache_at(tmp_path / "cache", identity="b" * 64)
    another.clips(entries)
    assert another.encoded == 16


def test_footage_that_moved_is_known_again(tmp_path: Path, drive: Path) -> None:
    cache_at(tmp_path / "cache").clips([DataEntry(str(drive))])
    (tmp_path / "archive").mkdir()
    moved = cache_at(tmp_path / "cache")
    # A clip goes by the last parts of its path.
    moved.clips([DataEntry(str(drive.rename(tmp_path / "archive/drive")))])
    assert moved.encoded == 10
    again = cache_at(tmp_path / "cache")
    (tmp_path / "attic").mkdir()
    again.clips([DataEntry(str((tmp_path / "archive").rename(tmp_path / "attic/archive") / "drive"))])
    assert again.encoded == 0


def test_fast_cameras_can_be_thinned_out_evenly(tmp_path: Path) -> None:
    video = tmp_path / "film.mp4"
    write_video(video, 25, 50)
    [[clip]] = cache_at(tmp_path / "cache").clips([DataEntry(str(video), rate=10)])
    assert set(np.diff(clip.stamps).tolist()) == {120_000_000}
    write_labels(video, 25, 50)
    [[clip]] = cache_at(tmp_path / "cache").clips([DataEntry(str(video), rate=10)])
    assert len(clip.labelled) == len(clip.stamps) == 17


def test_the_few_labels_there_are_survive_thinning(tmp_path: Path) -> None:
    drive = write_pictures(tmp_path / "drive", frames=12, rate=12, labelled=5)
    [[clip]] = cache_at(tmp_path / "cache").clips([DataEntry(str(drive), rate=3)])
    assert (np.rint(clip.stamps * 12 / 1e9)).astype(int).tolist() == [0, 4, 5, 8, 10]
    assert clip.labelled.tolist() == [0, 2, 4]


def test_mirrored_footage_is_encoded_as_a_mirror_shows_it(tmp_path: Path, drive: Path) -> None:
    cache_at(tmp_path / "cache").clips([DataEntry(str(drive))])
    cache = cache_at(tmp_path / "cache")
    [[clip, mirrored]] = cache.clips([DataEntry(str(drive), mirror=True)])
    assert cache.encoded == 10
    np.testing.assert_array_equal(mirrored.features, clip.features[:, :, ::-1])
    np.testing.assert_array_equal(mirrored.labels, clip.labels[:, :, ::-1])


@pytest.mark.parametrize(("fit", "shape"), [("crop", (60, 200)), ("stretch", (90, 100)), ("pad", (90, 100))])
def test_labels_are_cut_as_frames_are(fit: str, shape: tuple[int, int]) -> None:
    spec = BackboneSpec("weights.pt", HEIGHT, WIDTH, fit=fit)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    picture = np.stack([rows, columns, np.full(shape, 99)], -1).astype(np.uint8)
    frame = feature_cache.fit_frame(picture, HEIGHT, WIDTH, fit)[0]
    for channel, plane in enumerate((rows, columns)):
        labels = fit_mask(plane.astype(np.uint8), spec, HEIGHT, WIDTH).astype(int)
        shown = frame[:, :, 2] > 50  # padding is black in the picture, and ignored in the labels
        np.testing.assert_array_equal(labels != 255, shown)
        assert np.abs(labels - frame[:, :, channel])[shown].max() <= 3


def test_a_full_disk_is_named_before_it_is_full(tmp_path: Path, drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "ROOM", 10**18)
    with pytest.raises(TrainingError, match=r"/cache/.*: a clip needs 0\.00 GB and .* are free: name another folder"):
        cache_at(tmp_path / "cache").clips([DataEntry(str(drive))])
    assert not list((tmp_path / "cache").glob("*/.partial*"))


FILL = """
import sys, time
from pathlib import Path
from tests.training.test_feature_cache import *
slow = cache_at(Path(sys.argv[1]))
run = slow._encoder._run
slow._encoder._run = lambda frames: (print("at work", flush=True), time.sleep(float(sys.argv[3])), run(frames))[-1]
slow.clips([DataEntry(sys.argv[2])])
print(slow.encoded)
"""


def filler(cache: Path, drive: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", FILL, str(cache), str(drive), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_a_killed_process_leaves_nothing_and_holds_up_nobody(tmp_path: Path, drive: Path) -> None:
    killed = filler(tmp_path / "cache", drive, 60)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "at work\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    cache = cache_at(tmp_path / "cache")
    [[clip]] = cache.clips([DataEntry(str(drive))])
    assert cache.encoded == 10
    assert [file.name for file in clip.path.parent.iterdir() if "partial" in file.name] == []


def test_two_processes_share_the_work(tmp_path: Path, drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "WAIT", 0.05)
    other = filler(tmp_path / "cache", drive, 0.3)
    assert other.stdout is not None
    assert other.stdout.readline() == "at work\n"
    cache = cache_at(tmp_path / "cache")
    [[clip]] = cache.clips([DataEntry(str(drive))])
    assert cache.encoded == 0
    assert len(clip.features) == 10
    assert other.stdout.read().split()[-1] == "10"
    assert other.wait(60) == 0
