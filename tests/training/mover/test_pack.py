"""Clips of a pack, and what is believed of a teacher's labels."""

from pathlib import Path

import cv2
import numpy as np

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.training.mover.pack import read_clip

ROAD, VEGETATION, SKY, CAR = 0, 8, 10, 13


def test_a_teacher_is_believed_where_it_is_seldom_wrong(tmp_path: Path) -> None:
    path = tmp_path / "street.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (64, 32))
    for step in range(4):
        video.write(np.full((32, 64, 3), 50 * step, np.uint8))
    video.release()
    labels = np.empty((3, 32, 64), np.uint8)
    labels[..., :16], labels[..., 16:32], labels[..., 32:48], labels[..., 48:] = ROAD, VEGETATION, SKY, CAR
    np.savez(path.with_suffix(".labels.npz"), labels=labels)
    clip = read_clip(path, (32, 64), 100)
    assert clip.pictures.shape == (3, 32, 64, 3)  # as many as have labels
    assert clip.labels is not None
    high, low = clip.labels[0, 0, ::8], clip.labels[0, -1, ::8]  # hills are no road, puddles no sky, barriers no cars
    assert high.tolist() == [UNLABELLED, VEGETATION, SKY, UNLABELLED]
    assert low.tolist() == [ROAD, VEGETATION, UNLABELLED, UNLABELLED]
    assert len(read_clip(path, (32, 64), 2).pictures) == 2
