"""Stills that move: their flow is that of their pixels, and what is hidden is not called visible."""

import torch
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.training.mover.stills import moving_stills
from tests.training.mover.test_augment import moved_error

CLIPS, LENGTH, HEIGHT, WIDTH = 6, 7, 64, 128  # as moved_error expects


def smooth(seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    planes = functional.interpolate(torch.rand(CLIPS, 3, 8, 16, generator=g), (HEIGHT, WIDTH), mode="bicubic")
    return (planes * 255).clamp(0, 255).byte().permute(0, 2, 3, 1)


def test_flow_leads_to_the_same_pixels() -> None:
    chunk = moving_stills(smooth(0), smooth(1), LENGTH, 3, torch.Generator().manual_seed(2))
    for back in (1, 3):
        assert moved_error(chunk, back, along=True) < 0.3 * moved_error(chunk, back, along=False)
        assert not chunk.seen[:, :back, back - 1].any()  # there is no frame before
    assert (chunk.labels == UNLABELLED).all()
    assert not chunk.exact.any()


def test_something_moves_by_itself_and_hides_what_is_behind() -> None:
    behind, ahead = torch.zeros_like(smooth(0)), torch.full_like(smooth(0), 255)
    chunk = moving_stills(behind, ahead, LENGTH, 3, torch.Generator().manual_seed(4))
    white = chunk.pictures[..., 0].float()
    bright = functional.avg_pool2d(white.flatten(0, 1)[:, None], 2).view(CLIPS, LENGTH, HEIGHT // 2, WIDTH // 2) > 127
    inside = bright.flatten(1).float().mean(1)
    assert ((inside > 0.02) & (inside < 0.98)).any()  # shapes with a border
    # What was covered a frame ago and is not any more was not visible then.
    lost = ~bright[:, 1:] & ~chunk.seen[:, 1:, 0]
    assert lost[inside > 0.02].any()
    # Border pixels apart, black is never said to have been at a white place.
    g = torch.stack(torch.meshgrid(torch.arange(HEIGHT // 2), torch.arange(WIDTH // 2), indexing="ij")[::-1])
    place = (g + chunk.flows[:, 1:, 0]).round().long()
    column, row = place[:, :, 0].clamp(0, WIDTH // 2 - 1), place[:, :, 1].clamp(0, HEIGHT // 2 - 1)
    was = bright[:, :-1].flatten(2).gather(2, (row * (WIDTH // 2) + column).flatten(2)).view_as(row)
    wrong = chunk.seen[:, 1:, 0] & (was != bright[:, 1:])
    assert wrong.float().mean() < 0.01
