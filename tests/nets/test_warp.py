import torch

from re2pix_node.nets.warp import warp


def test_content_comes_from_where_the_displacement_points() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    moved = warp(x, torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 4))
    torch.testing.assert_close(moved[0, 0, 0], torch.tensor([1.0, 2.0, 3.0, 3.0]))


def test_a_displacement_that_is_not_a_number_gives_none() -> None:
    # PyTorch's grid_sample ended the process by SIGSEGV: a training that diverged gave no line.
    x = torch.randn(2, 8, 16, 32, requires_grad=True)
    displacement = torch.zeros(2, 2, 16, 32)
    displacement[0, 1, 3, 5] = torch.nan
    displacement[1] = torch.inf
    displacement.requires_grad_()
    moved = warp(x, displacement)
    lost = moved.isnan().all(1)
    assert lost.nonzero().tolist() == [[0, 3, 5]]
    torch.testing.assert_close(moved[0][:, ~lost[0]], x[0][:, ~lost[0]])
    moved.square().mean().backward()
    assert x.grad is not None
    everywhere = warp(x, torch.full((2, 2, 16, 32), torch.nan))
    assert everywhere.isnan().all()
