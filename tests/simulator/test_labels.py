"""Labels and depth against geometry that is known without them."""

import numpy as np

from re2pix_node.footage.cityscapes_classes import ROAD, SKY
from re2pix_node.simulator.mesh import Array
from re2pix_node.simulator.reader import DriveFrame


def rays(frame: DriveFrame) -> Array:
    """The direction of every pixel on the map, one metre along the camera's axis."""
    height, width = frame.depth.shape
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    directions: Array = pixels @ np.linalg.inv(frame.intrinsics).T @ frame.camera[:3, :3].T
    return directions


def test_class_ids_are_those_of_cityscapes(frames: list[DriveFrame]) -> None:
    found = set(np.unique([frame.segmentation for frame in frames]).tolist())
    assert found <= {*range(19), 255}
    assert {0, 1, 2, 5, 8, 10, 13} <= found


def test_sky_is_above_the_horizon_and_infinitely_far(frames: list[DriveFrame]) -> None:
    for frame in frames:
        sky = frame.segmentation == SKY
        assert sky.any()
        assert (rays(frame)[sky][:, 2] > -0.02).all()
        assert np.array_equal(np.isinf(frame.depth), sky)


def test_road_is_under_the_car(frames: list[DriveFrame]) -> None:
    for frame in frames:
        height, width = frame.segmentation.shape
        bonnet = frame.segmentation[-height // 12 :, width // 3 : -width // 3]
        assert (bonnet == ROAD).mean() > 0.98


def test_depth_of_the_road_is_that_of_a_plane(frames: list[DriveFrame]) -> None:
    for frame in frames[::5]:
        down = rays(frame)[..., 2]
        road = (frame.segmentation == ROAD) & (down < -0.05)
        expected = frame.camera[2, 3] / -down[road]
        assert road.sum() > 2000
        # Markings are painted a centimetre high.
        assert np.allclose(frame.depth[road], expected, rtol=0.015)


def test_what_moves_is_where_its_pose_says(frames: list[DriveFrame]) -> None:
    checked = 0
    for frame in frames[::5]:
        points = rays(frame) * np.where(np.isinf(frame.depth), 0, frame.depth)[..., None] + frame.camera[:3, 3]
        for instance in set(np.unique(frame.instances)) - {0}:
            seen = points[frame.instances == instance]
            distance = np.linalg.norm(seen - frame.objects[int(instance)][:3, 3], axis=1)
            assert distance.max() < 8
            checked += 1
    assert checked > 10


def test_instances_belong_to_one_class_of_things_that_move(frames: list[DriveFrame]) -> None:
    moving = {11, 12, 13, 14, 15, 17, 18}
    for frame in frames:
        assert set(np.unique(frame.segmentation[frame.instances > 0]).tolist()) <= moving
