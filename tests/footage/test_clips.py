"""Every layout through the one reader, and its faults in clear messages."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from re2pix_node.errors import Re2pixError
from re2pix_node.footage.clips import DataError, open_clips, samples
from re2pix_node.recordings.writer import BagWriter
from tests.support.made_footage import (
    HEIGHT,
    SPEC,
    WIDTH,
    all_labels,
    assert_lines_up,
    image_message,
    mask,
    number_in,
    picture,
    stamps_at,
    write_bag,
    write_labels,
    write_video,
)

REAL = Path(__file__).resolve().parents[3] / "shared/data/real/val"  # beside the checkout, where there is one


class TestRecordings:
    def test_of_the_simulator(self, tmp_path: Path) -> None:
        masks = {number: mask(number) for number in range(60) if number % 5}
        write_bag(tmp_path / "drive_00042", stamps_at(17, 60), masks)
        (clip,) = open_clips(tmp_path / "drive_00042")
        assert clip.name.endswith("/drive_00042")
        assert list(clip.labelled) == sorted(masks)
        assert clip.space.names[13] == "car"
        assert_lines_up(clip)
        np.testing.assert_array_equal(clip.labels(7), mask(7))
        assert clip.labels(10) is None

    def test_without_labels(self, drive_bag: Path) -> None:
        (clip,) = open_clips(drive_bag)
        assert (len(clip), list(clip.labelled)) == (90, [])
        assert clip.frame(3).shape == (360, 640, 3)
        # 12 frames until the first context, and three steps of five frames until the end.
        assert len(list(samples(clip, SPEC))) == 90 - 12 - 15
        assert not list(samples(clip, SPEC, labelled_only=True))

    def test_a_single_file(self, drive_bag: Path) -> None:
        (file,) = drive_bag.glob("*.mcap")
        assert len(open_clips(file)[0]) == 90

    def test_many_drives_are_sorted_and_named_apart(self, tmp_path: Path) -> None:
        (tmp_path / "x" / "drives").mkdir(parents=True)
        for name in ("b", "a", "c"):
            write_bag(tmp_path / "x" / "drives" / name, stamps_at(17, 3))
        write_video(tmp_path / "x" / "video.mp4", 17, 3)
        (tmp_path / "x" / ".hidden").mkdir()
        (tmp_path / "x" / "circle").symlink_to(tmp_path)
        assert [clip.name.split("/", 1)[1] for clip in open_clips(tmp_path)] == [
            "drives/a",
            "drives/b",
            "drives/c",
            "x/video.mp4",
        ]

    def test_equal_ends_of_paths_do_not_make_equal_names(self, tmp_path: Path) -> None:
        for top in ("one", "two"):
            (tmp_path / top / "x" / "y").mkdir(parents=True)
            write_bag(tmp_path / top / "x" / "y" / "drive", stamps_at(17, 3))
        first, second = open_clips(tmp_path)
        assert first.name != second.name

    def test_several_cameras(self, tmp_path: Path) -> None:
        with BagWriter(tmp_path / "drive") as bag:
            for number, stamp in enumerate(stamps_at(17, 5)):
                bag.write("/front", image_message(picture(number), stamp, "rgb8"), stamp)
                bag.write("/rear", image_message(picture(100 + number), stamp, "rgb8"), stamp)
        with pytest.raises(DataError, match=r"several camera topics, /front, /rear: choose one by 'topic: NAME'"):
            open_clips(tmp_path / "drive")
        assert number_in(open_clips(tmp_path / "drive", topic="/rear")[0].frame(2)) == 102
        (tmp_path / "dataset.yaml").write_text("topic: /front")
        assert number_in(open_clips(tmp_path / "drive")[0].frame(2)) == 2
        with pytest.raises(Re2pixError, match="no camera topic /left"):
            open_clips(tmp_path / "drive", topic="/left")
        with pytest.raises(DataError, match="is ground truth"):
            open_clips(tmp_path / "drive", topic="/ground_truth/segmentation")

    def test_only_ground_truth(self, tmp_path: Path) -> None:
        write_bag(tmp_path / "drive", stamps_at(17, 5), camera="/ground_truth/instances")
        with pytest.raises(DataError, match="no camera topic"):
            open_clips(tmp_path / "drive")

    def test_stamps_of_another_clock(self, tmp_path: Path) -> None:
        with BagWriter(tmp_path / "drive") as bag:
            for number, stamp in enumerate(stamps_at(17, 5)):
                bag.write("/camera", image_message(picture(number), stamp, "rgb8"), stamp)
                bag.write("/ground_truth/segmentation", image_message(mask(number), stamp + 1, "mono8"), stamp)
        with pytest.raises(DataError, match="has the header stamp of a frame of /camera"):
            open_clips(tmp_path / "drive")

    def test_a_segmentation_that_is_no_mono8(self, tmp_path: Path) -> None:
        write_bag(tmp_path / "drive", stamps_at(17, 5), {2: picture(2)}, encoding="rgb8")
        with pytest.raises(DataError, match=r"/ground_truth/segmentation at \d+ ns: is rgb8: publish class ids"):
            all_labels(open_clips(tmp_path / "drive")[0])

    def test_frames_and_labels_of_wrong_sizes(self, tmp_path: Path) -> None:
        write_bag(tmp_path / "a", stamps_at(17, 5), pictures={3: picture(3, 80, 48)})
        with pytest.raises(DataError, match=r"/camera/image at \d+ ns: is 80 x 48 pixels, other frames .* 64 x 48"):
            list(open_clips(tmp_path / "a")[0].frames(range(5)))
        write_bag(tmp_path / "b", stamps_at(17, 5), {2: mask(2, 64, 64)})
        with pytest.raises(DataError, match=r"segmentation at \d+ ns: is 64 x 64 pixels, its frame is 64 x 48 pixels"):
            all_labels(open_clips(tmp_path / "b")[0])

    def test_labels_of_another_scale_are_resized(self, tmp_path: Path) -> None:
        write_bag(tmp_path / "a", stamps_at(17, 5), {2: mask(2, WIDTH // 2, HEIGHT // 2)})
        np.testing.assert_array_equal(open_clips(tmp_path / "a")[0].labels(2), mask(2))

    def test_an_unknown_value(self, tmp_path: Path) -> None:
        write_bag(tmp_path / "a", stamps_at(17, 5), {2: np.full((HEIGHT, WIDTH), 19, np.uint8)})
        with pytest.raises(DataError, match="the label value 19 at x 0, y 0 is unknown"):
            all_labels(open_clips(tmp_path / "a")[0])

    def test_a_picture_that_cannot_be_decoded(self, tmp_path: Path) -> None:
        stamps = stamps_at(17, 3)
        write_bag(tmp_path / "a", stamps, pictures={1: picture(1)[:, :0]})
        with pytest.raises(DataError, match=f"/camera/image at {stamps[1]} ns: rgb8 image of 0 x 48 pixels is empty"):
            list(open_clips(tmp_path / "a")[0].frames(range(3)))

    def test_a_truncated_recording_gives_what_is_whole_and_warns(self, tmp_path: Path) -> None:
        write_bag(tmp_path / "drive", stamps_at(17, 255))
        (file,) = (tmp_path / "drive").glob("*.mcap")
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 9 // 10])
        with pytest.warns(UserWarning, match="is truncated: 226 of 255 frames read"):
            (clip,) = open_clips(tmp_path / "drive")
        assert [number_in(frame) for frame in clip.frames(range(len(clip)))] == list(range(226))

    def test_a_rate_means_nothing_for_a_recording(self, tmp_path: Path) -> None:
        write_bag(tmp_path / "a", stamps_at(17, 3))
        (tmp_path / "dataset.yaml").write_text("rate: 17")
        with pytest.raises(DataError, match=r"dataset.yaml: rate: .* has stamps and labels of its own: remove it"):
            open_clips(tmp_path / "a")


class TestVideos:
    @pytest.mark.parametrize(("codec", "suffix"), [("mp4v", "mp4"), ("VP80", "webm"), ("mp4v", "mkv"), ("MJPG", "avi")])
    def test_containers(self, codec: str, suffix: str, tmp_path: Path) -> None:
        write_video(tmp_path / f"drive.{suffix}", 17, 40, codec)
        (clip,) = open_clips(tmp_path)
        np.testing.assert_allclose(clip.stamps, stamps_at(17, 40, start=0), atol=1_000_000)
        assert [number_in(frame) for frame in clip.frames(range(40))] == list(range(40))
        assert number_in(clip.frame(33)) == 33
        assert clip.frame(0)[-1, -1].tolist() == pytest.approx([0, 0, 128], abs=20)  # RGB

    def test_labels_beside(self, tmp_path: Path) -> None:
        write_video(tmp_path / "drive.mp4", 25, 60)
        write_labels(tmp_path / "drive.mp4", 25, 60)
        (clip,) = open_clips(tmp_path / "drive.mp4")
        assert list(clip.labelled) == list(range(60))
        assert_lines_up(clip)
        np.testing.assert_array_equal(clip.labels(41), mask(41))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"labels": np.zeros((39, HEIGHT, WIDTH), np.uint8)}, "for 39 frames, drive.mp4 has 40"),
            ({"labels": np.zeros((40, HEIGHT, WIDTH), np.int32)}, r"labels is int32 \[40, 48, 64\]"),
            ({"labels": np.zeros((40, HEIGHT), np.uint8)}, r"labels is uint8 \[40, 48\]"),
            ({"labels": np.asfortranarray(np.zeros((40, HEIGHT, WIDTH), np.uint8))}, "in C order"),
            ({"labels": None}, "must hold labels"),
            ({"fps": None}, "must hold labels"),
            ({"fps": 30}, "fps is 30, drive.mp4 has 17"),
            ({"fps": float("nan")}, "fps is nan"),
            ({"fps": np.full(3, 17.0)}, r"fps is float64 \[3\] and not a number"),
            ({"fps": "17"}, "fps is <U2 .* and not a number"),
        ],
    )
    def test_labels_that_do_not_belong(self, changes: dict, message: str, tmp_path: Path) -> None:
        write_video(tmp_path / "drive.mp4", 17, 40)
        write_labels(tmp_path / "drive.mp4", 17, 40, **changes)
        with pytest.raises(DataError, match=f"drive.labels.npz: .*{message}"):
            open_clips(tmp_path)

    def test_labels_of_a_wrong_size_or_value(self, tmp_path: Path) -> None:
        write_video(tmp_path / "drive.mp4", 17, 4)
        write_labels(tmp_path / "drive.mp4", 17, 4, labels=np.zeros((4, 64, 64), np.uint8))
        with pytest.raises(DataError, match=r"drive.labels.npz: labels\[0\]: is 64 x 64 pixels, its frame is 64 x 48"):
            all_labels(open_clips(tmp_path)[0])
        labels = np.zeros((4, HEIGHT, WIDTH), np.uint8)
        labels[2, 5, 7] = 99
        write_labels(tmp_path / "drive.mp4", 17, 4, labels=labels)
        with pytest.raises(DataError, match=r"labels\[2\]: the label value 99 at x 7, y 5 is unknown"):
            all_labels(open_clips(tmp_path)[0])

    def test_labels_never_execute(self, tmp_path: Path) -> None:
        class Harm:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "harm"),)

        write_video(tmp_path / "drive.mp4", 17, 4)
        for name in ("labels", "fps"):
            write_labels(tmp_path / "drive.mp4", 17, 4, **{name: np.array([Harm()] * 4, object)})
            with pytest.raises(DataError, match=r"drive.labels.npz"):
                all_labels(open_clips(tmp_path)[0])
        with zipfile.ZipFile(tmp_path / "drive.labels.npz", "w") as archive:
            archive.writestr("labels.npy", pickle.dumps(Harm()))
        with pytest.raises(DataError, match="cannot be read"):
            open_clips(tmp_path)
        assert not (tmp_path / "harm").exists()

    def test_labels_that_claim_all_memory(self, tmp_path: Path) -> None:
        write_video(tmp_path / "drive.mp4", 17, 1)
        file = write_labels(tmp_path / "drive.mp4", 17, 1, labels=None)
        with zipfile.ZipFile(file, "a") as archive, archive.open("labels.npy", "w") as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "|u1", "fortran_order": False, "shape": (1, 1 << 20, 1 << 20)}
            )
        with pytest.raises(DataError, match="no frame is that large"):
            open_clips(tmp_path)

    def test_damaged_labels(self, tmp_path: Path) -> None:
        write_video(tmp_path / "drive.mp4", 17, 40)
        file = write_labels(tmp_path / "drive.mp4", 17, 40)
        whole = file.read_bytes()
        file.write_bytes(whole[:-100])
        with pytest.raises(DataError, match=r"drive.labels.npz: cannot be read"):
            open_clips(tmp_path)
        torn = bytearray(whole)
        torn[300:600] = bytes(300)
        file.write_bytes(torn)
        with pytest.raises(DataError, match=r"drive.labels.npz: cannot be read"):
            all_labels(open_clips(tmp_path)[0])

    def test_a_rate_of_ones_own(self, tmp_path: Path) -> None:
        write_video(tmp_path / "drive.mp4", 30, 40)
        (tmp_path / "dataset.yaml").write_text("rate: 10")
        for path in (tmp_path, tmp_path / "drive.mp4"):
            (clip,) = open_clips(path)
            assert list(clip.stamps) == stamps_at(10, 40, start=0)
            assert number_in(next(samples(clip, SPEC)).context[-1]) == 6

    def test_no_video(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_bytes(b"nonsense")
        with pytest.raises(DataError, match=r"a.mp4: is not a video"):
            open_clips(tmp_path)
        (tmp_path / "a.txt").write_text("nonsense")
        with pytest.raises(DataError, match=r"a.txt: is neither a recording nor a video"):
            open_clips(tmp_path / "a.txt")

    def test_a_damaged_video(self, tmp_path: Path) -> None:
        file = tmp_path / "drive.mkv"
        write_video(file, 17, 100)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        (clip,) = open_clips(file)
        assert 10 < len(clip) < 100
        assert [number_in(frame) for frame in clip.frames(range(len(clip)))] == list(range(len(clip)))

    def test_a_video_that_shrinks_after_it_was_opened(self, tmp_path: Path) -> None:
        file = tmp_path / "drive.mp4"
        write_video(file, 17, 40)
        (clip,) = open_clips(file)
        write_video(file, 17, 30)
        with pytest.raises(DataError, match=r"drive.mp4: only 30 of 40 frames can be decoded"):
            list(clip.frames(range(40)))
        write_video(file, 10, 40)
        with pytest.raises(DataError, match=r"drive.mp4: frame 1: is shown at 100 ms, and not at 58.8\d+ ms"):
            list(clip.frames(range(40)))


class TestNothing:
    def test_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere: does not exist"):
            open_clips(tmp_path / "nowhere")
        with pytest.raises(DataError, match="holds no recording, video"):
            open_clips(tmp_path)

    def test_that_could_have_a_name(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"x: (cannot be read|does not exist)"):
            open_clips(tmp_path / ("x" * 300))

    @pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
    def test_readable(self, tmp_path: Path) -> None:
        (tmp_path / "closed").mkdir(mode=0)
        with pytest.raises(DataError, match="closed: cannot be read"):
            open_clips(tmp_path)


@pytest.mark.long  # whole videos
@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
@pytest.mark.parametrize("file", sorted(REAL.glob("*.mp4")), ids=lambda file: file.stem)
def test_real_footage(file: Path) -> None:
    (clip,) = open_clips(file)
    assert clip.name == f"real/val/{file.name}"
    assert clip._source.trusted  # its timestamps, though they lie in the file in another order than they are shown in
    found = list(samples(clip, SPEC, every=10))
    assert len(found) > 10
    rate = 25 if "udacity" in file.name else 30000 / 1001
    for sample in found[2:]:  # once the nearest spacing is on offer
        assert sample.spacing == pytest.approx((4 if rate == 25 else 5) / rate * 1e9, abs=1000)
        assert all(frame.shape == (256, 448, 3) for frame in (*sample.context, *sample.future))
    has_labels = file.with_suffix(".labels.npz").is_file()
    assert all((sample.now_labels is not None) == has_labels for sample in found)
    if has_labels:
        # A teacher's opinion, but on a highway there is road in front and sky above.
        below = np.mean([np.mean(sample.now_labels[150:220, 150:300] == 0) for sample in found])
        above = np.mean([np.mean(sample.now_labels[:60] == 10) for sample in found])
        assert (below > 0.7, above > 0.7) == (True, True)
