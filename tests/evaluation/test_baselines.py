import numpy as np
import pytest

from re2pix_node.evaluation.flow import backward_flow, on_grid, warp_nearest, warp_smooth
from re2pix_node.evaluation.ridge import predict, regressors, solve, sums_of
from tests.support.worlds import CELL, Sliding


def test_flow_finds_a_uniform_motion_and_goes_on_with_it() -> None:
    world = Sliding(seed=3)
    flow = backward_flow(world.frame(1), world.frame(0))
    inside = flow[16:-16, 32:-32]
    np.testing.assert_allclose(np.median(inside, axis=(0, 1)), [-CELL, 0], atol=0.3)
    moved = warp_nearest(world.labels(1), flow, steps=2)
    margin = 4 * CELL
    right, still = ((mask == world.labels(3))[:, margin:].mean() for mask in (moved, world.labels(1)))
    assert right > 0.95 > still + 0.1


def test_flow_is_told_in_cells_of_a_grid() -> None:
    flow = np.zeros((32, 64, 2), np.float32)
    flow[..., 0], flow[..., 1] = -8, 4
    cells = on_grid(flow, 4, 8)
    assert cells.shape == (4, 8, 2)
    np.testing.assert_allclose(cells, np.broadcast_to([-1.0, 0.5], cells.shape))


def test_warping_interpolates_and_repeats_the_border() -> None:
    ramp = np.arange(6, dtype=np.float32)[None, :, None].repeat(3, 0)
    flow = np.zeros((3, 6, 2), np.float32)
    flow[..., 0] = -0.5
    np.testing.assert_allclose(warp_smooth(ramp, flow, 1)[1, :, 0], [0, 0.5, 1.5, 2.5, 3.5, 4.5])
    np.testing.assert_allclose(warp_smooth(ramp, flow, 4)[1, :, 0], [0, 0, 0, 1, 2, 3])
    flow[..., 0] = 0
    flow[..., 1] = 1
    np.testing.assert_array_equal(warp_nearest(np.array([[1], [2], [3]]), flow[:, :1], 1), [[2], [3], [3]])


def ridge_world(seed: int, cells: tuple[int, int] = (12, 16), channels: int = 3):
    """Features that continue linearly: the last change repeats, and in one channel it doubles."""
    rng = np.random.default_rng(seed)
    context = [rng.normal(0, 1, (*cells, channels)).astype(np.float32) for _ in range(4)]
    gain = np.array([1.0, 2.0, 0.0])
    return context, context[-1] + gain * (context[-1] - context[-2]) + np.array([0.0, 0.0, 5.0])


def test_the_ridge_learns_a_linear_world_and_carries_it_to_another_clip() -> None:
    context, future = ridge_world(0)
    given = regressors(context, warped=context[-1])
    assert given.shape == (3, 7, 12 * 16)  # 7 numbers a channel
    weights = solve(sums_of(given, context[-1], future))
    other, other_future = ridge_world(1)
    said = predict(weights, regressors(other, warped=other[-1]), other[-1])
    np.testing.assert_allclose(said, other_future, atol=0.05)
    assert np.abs(other[-1] - other_future).mean() > 0.5


def test_where_nothing_changes_the_ridge_copies() -> None:
    context, _ = ridge_world(2)
    context[-1][..., 0] = 0  # and a channel that is always zero breaks nothing
    given = regressors(context, warped=context[-1])
    weights = solve(sums_of(given, context[-1], context[-1]))
    np.testing.assert_allclose(predict(weights, given, context[-1]), context[-1], atol=1e-6)


def test_sums_add_up() -> None:
    worlds = [ridge_world(seed) for seed in (3, 4)]
    parts = [sums_of(regressors(context, context[-1]), context[-1], future) for context, future in worlds]
    total = parts[0] + parts[1]
    both = [np.concatenate(pair) for pair in zip(*(context for context, _ in worlds), strict=True)]
    # The blur looks over the seam between the two: leave it out of the comparison.
    given = regressors(both, both[-1])
    keep = [0, 1, 2, 3, 5, 6]
    expected = (given @ given.transpose(0, 2, 1))[:, keep][:, :, keep]
    assert total.gram[:, keep][:, :, keep] == pytest.approx(expected, rel=1e-5)
