"""Changed pictures, labels and flows still belong together."""

import torch
from torch import Tensor
from torch.nn import functional

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.training.mover.augment import Chunk, augmented

CLIPS, LENGTH, HEIGHT, WIDTH, STEP = 6, 7, 64, 128, 4  # STEP: pixels to the right that all moves each frame


def rolling() -> Chunk:
    """A smooth random picture that moves on evenly; its labels are where it is bright."""
    g = torch.Generator().manual_seed(0)
    wide = functional.interpolate(
        torch.rand(CLIPS, 3, 8, 24, generator=g), (HEIGHT, WIDTH + STEP * LENGTH), mode="bicubic"
    )
    frames = [wide[..., STEP * (LENGTH - i) : STEP * (LENGTH - i) + WIDTH] for i in range(LENGTH)]
    pictures = (torch.stack(frames, 1) * 255).clamp(0, 255).byte().permute(0, 1, 3, 4, 2)
    labels = (pictures[:, :, ::2, ::2, 0] > 127).byte()
    flows = torch.zeros(CLIPS, LENGTH, 3, 2, HEIGHT // 2, WIDTH // 2)
    seen = torch.ones(CLIPS, LENGTH, 3, HEIGHT // 2, WIDTH // 2, dtype=torch.bool)
    for back in range(3):
        flows[:, :, back, 0] = -STEP / 2 * (back + 1)
        seen[:, : back + 1, back] = False
    return Chunk(pictures, labels, flows, seen, torch.ones(len(pictures), dtype=torch.bool))


def moved_error(chunk: Chunk, back: int, along: bool) -> Tensor:
    """Mean difference of brightness to the frame `back` before, there or along the flow, where it was seen."""
    grey = functional.avg_pool2d(chunk.pictures.float().mean(-1).flatten(0, 1)[:, None], 2).unflatten(
        0, (CLIPS, LENGTH)
    )
    now, before = grey[:, back:], grey[:, :-back]
    height, width = grey.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    flow = chunk.flows[:, back:, back - 1] if along else torch.zeros_like(chunk.flows[:, back:, back - 1])
    places = torch.stack([(x + flow[:, :, 0]) * 2 / width - 1, (y + flow[:, :, 1]) * 2 / height - 1], -1)
    found = functional.grid_sample(before.flatten(0, 1), places.flatten(0, 1), align_corners=False)
    seen = chunk.seen[:, back:, back - 1].flatten(0, 1)
    return ((found[:, 0] - now.flatten(0, 1)[:, 0]).abs() * seen).sum() / seen.sum()


def test_flows_move_with_the_pictures() -> None:
    changed = augmented(rolling(), torch.Generator().manual_seed(3))
    for back in (1, 3):
        assert moved_error(changed, back, along=True) < 0.5 * moved_error(changed, back, along=False)


def test_labels_move_with_the_pictures() -> None:
    changed = augmented(rolling(), torch.Generator().manual_seed(3))
    bright = changed.pictures[:, :, ::2, ::2].float().mean(-1)
    for clip in range(CLIPS):  # exposure and tint differ from clip to clip
        known = changed.labels[clip] != UNLABELLED
        on, off = (bright[clip][known & (changed.labels[clip] == label)].mean() for label in (1, 0))
        assert on > off + 3


def test_no_clip_looks_as_before_and_each_draw_is_another() -> None:
    chunk = rolling()
    one, again, other = (augmented(chunk, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.pictures, again.pictures)
    assert not torch.equal(one.pictures, other.pictures)
    assert not any(torch.equal(a, b) for a, b in zip(one.pictures, chunk.pictures, strict=True))


def test_what_is_outside_is_unlabelled_and_unseen() -> None:
    changed = augmented(rolling(), torch.Generator().manual_seed(3))
    outside = changed.labels == UNLABELLED
    assert not changed.seen[outside[:, :, None].expand_as(changed.seen)].any()
    assert not changed.seen[:, 0].any()  # nothing came before the first frame


def test_a_look_is_taken_from_another_picture() -> None:
    dark = torch.zeros(1, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    plain, styled = (
        augmented(rolling(), torch.Generator().manual_seed(3), styles).pictures.float().mean((1, 2, 3, 4))
        for styles in (None, dark)
    )
    assert plain.shape == styled.shape == (CLIPS,)
    assert not torch.equal(plain, styled)
