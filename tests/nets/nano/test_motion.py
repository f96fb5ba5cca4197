"""Motion inside the graph: shifts are found, and warping reverses them."""

import pytest
import torch

from re2pix_node.nets.features import small_picture
from re2pix_node.nets.nano.motion import RADIUS, Compare, flow_between
from re2pix_node.nets.warp import warp

SIDE = 2 * RADIUS + 1


def shifted(x: torch.Tensor, right: int, down: int) -> torch.Tensor:
    return torch.roll(x, (down, right), (2, 3))


@pytest.mark.parametrize(("right", "down"), [(0, 0), (3, -2), (-4, 1)])
def test_a_shift_is_found_again(right: int, down: int) -> None:
    torch.manual_seed(0)
    before = torch.randn(1, 24, 12, 16)
    now = shifted(before, right, down)
    best = Compare(12, 16)(now, before).argmax(1)[0]
    # Content that moved right by so many cells lies that many cells to the left in the earlier frame.
    expected = (RADIUS - down) * SIDE + (RADIUS - right)
    inner = best[RADIUS:-RADIUS, RADIUS:-RADIUS]
    assert (inner == expected).all()


def test_nothing_is_alike_beyond_the_edge() -> None:
    alike = Compare(6, 6)(torch.ones(1, 24, 6, 6), torch.ones(1, 24, 6, 6))
    corner = alike[0, :, 0, 0].view(SIDE, SIDE)
    assert (corner[:RADIUS] == 0).all()
    assert (corner[:, :RADIUS] == 0).all()
    torch.testing.assert_close(corner[RADIUS:, RADIUS:], torch.ones(RADIUS + 1, RADIUS + 1))


def test_warping_looks_up_where_the_displacement_points() -> None:
    x = torch.randn(1, 3, 6, 8)
    displacement = torch.zeros(1, 2, 6, 8)
    torch.testing.assert_close(warp(x, displacement), x)
    displacement[:, 0], displacement[:, 1] = 2, -1
    moved = warp(x, displacement)
    torch.testing.assert_close(moved[:, :, 1:, :6], x[:, :, :-1, 2:])
    torch.testing.assert_close(moved[:, :, 1:, 7], x[:, :, :-1, 7])  # beyond the edge: the edge


def test_warping_between_cells_is_linear() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 4, 8).contiguous()
    displacement = torch.zeros(1, 2, 4, 8)
    displacement[:, 0] = 0.25
    torch.testing.assert_close(warp(ramp, displacement)[..., :7], ramp[..., :7] + 0.25)


def test_places_keep_their_precision_in_half_precision_training() -> None:
    x = torch.randn(1, 3, 28, 56).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(warp(x, torch.zeros(1, 2, 28, 56).bfloat16()), x)


def scene(right: float, down: float) -> torch.Tensor:
    """u8 [1, 112, 224, 3]: smooth waves of several lengths, moved by so many pixels."""
    y, x = torch.meshgrid(torch.arange(112) - down, torch.arange(224) - right, indexing="ij")
    waves = torch.sin(x / 9 + y / 23) + torch.sin(x / 17 - y / 11) + torch.sin((x + 2 * y) / 31)
    return ((waves / 6 + 0.5) * 255).byte()[None, :, :, None].expand(-1, -1, -1, 3)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (6, 0), (-3, 5), (12, -4)])
def test_the_flow_says_where_content_was(right: int, down: int) -> None:
    before, now = (small_picture(scene(*moved), 8) for moved in ((0, 0), (right, down)))
    flow, unlike = flow_between(now, before)
    assert flow.shape == (1, 2, 14, 28)
    inner = flow[0, :, 3:-3, 3:-3]
    expected = torch.tensor([-right / 8, -down / 8])[:, None, None].expand_as(inner)
    off = (inner - expected).abs()
    assert off.mean() < 0.04
    assert off.max() < 0.25
    assert unlike[..., 3:-3, 3:-3].max() < 0.1


def test_the_flow_stays_finite_where_there_is_nothing_to_see() -> None:
    dark, noise = torch.full((1, 16, 8, 16), -2.0), torch.rand(1, 16, 8, 16, generator=torch.manual_seed(0)) * 4 - 2
    for now, before in ((dark, dark), (dark, noise), (noise, dark)):
        flow, unlike = flow_between(now, before)
        assert torch.isfinite(flow).all()
        assert torch.isfinite(unlike).all()
    assert (flow_between(dark, dark)[0] == 0).all()
