"""The small forecaster: it starts from the visible motion and learns to continue it, at once or step by step."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from re2pix_node.nets.light_head import LightHead, agreement_loss
from re2pix_node.nets.nano.forecaster import NanoForecaster, NanoOptions

OPTIONS = NanoOptions(
    channels=8, carried=16, height=8, width=16, context=3, horizons=(1, 2),
    hidden=48, depth=1, heads=2, motion_hidden=32, motion_depth=1,
)  # fmt: skip


def moving(number: int, seed: int) -> torch.Tensor:
    """[number, 5, 8, 16, 24]: random textures that move one or two cells a frame to the left or right."""
    rng = torch.Generator().manual_seed(seed)
    wide = torch.randn(number, 8, 48, 24, generator=rng)
    frames = torch.empty(number, 5, 8, 16, 24)
    for i in range(number):
        speed = int(torch.randint(1, 3, (1,), generator=rng)) * (-1 if i % 2 else 1)
        for moment in range(5):
            frames[i, moment] = wide[i].roll(speed * moment, 1)[:, 16:32]
    return frames


@pytest.mark.parametrize("rollout", [False, True])
def test_untrained_a_still_scene_stays(rollout: bool) -> None:
    net = NanoForecaster(dataclasses.replace(OPTIONS, rollout=rollout))
    context = moving(2, 0)[:, :1].expand(-1, 3, -1, -1, -1)
    said, displacements = net(context)
    assert said.shape == (2, 2, 8, 16, 8)
    assert displacements.shape == (2, 2, 2, 8, 16)
    torch.testing.assert_close(said, context[:, -1:, ..., :8].expand_as(said), atol=1e-4, rtol=0)
    assert (displacements == 0).all()


def test_untrained_what_moves_moves_on() -> None:
    """Each horizon moves by its multiple of the visible motion."""
    net = NanoForecaster(dataclasses.replace(OPTIONS, horizons=(1, 3)))
    context = moving(1, 0)[:, :3].clone()
    ramp = torch.arange(16.0) / 4  # brightness rises to the right, and comes in from there by a quarter of a cell
    context[:, :, ..., 8:] = torch.stack([ramp + moment / 16 for moment in range(3)])[:, None, :, None]
    _, displacements = net(context)
    inner = displacements[0, :, :, 2:6, 4:12]
    assert (inner[0, 0] > 0.1).all()
    torch.testing.assert_close(inner[1], 3 * inner[0])


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="from 2 frames on"):
        dataclasses.replace(OPTIONS, context=1)
    with pytest.raises(ValueError, match="horizons must be 1, 2"):
        dataclasses.replace(OPTIONS, horizons=(2, 3), rollout=True)


@pytest.mark.long
@pytest.mark.parametrize("rollout", [False, True])
def test_it_learns_to_go_on_with_a_motion(rollout: bool) -> None:
    torch.manual_seed(0)
    net = NanoForecaster(dataclasses.replace(OPTIONS, rollout=rollout))
    optimizer = torch.optim.AdamW(net.parameters(), 6e-3)
    for step in range(80):
        frames = moving(8, step)
        said, _ = net(frames[:, :3])
        loss = functional.smooth_l1_loss(said, frames[:, 3:, ..., :8], beta=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    frames = moving(32, 10_000)
    context, truth = frames[:, :3], frames[:, 3:, ..., :8]
    with torch.inference_mode():
        said, _ = net(context)
    apart = (said - truth).abs().mean((0, 2, 3, 4))
    copied = (context[:, -1:, ..., :8] - truth).abs().mean((0, 2, 3, 4))
    # Content that enters at an edge cannot be known.
    assert (apart / copied)[0] < 0.75
    assert (apart / copied)[1] < 0.9


def test_the_head_gives_logits_at_twice_the_grid() -> None:
    head = LightHead(8, 5, width=16)
    assert head(torch.randn(2, 6, 7, 8)).shape == (2, 5, 12, 14)


def test_agreement_is_best_with_the_truth_and_leaves_the_target_alone() -> None:
    torch.manual_seed(0)
    head = LightHead(8, 5, width=16).requires_grad_(False)
    truth = torch.randn(2, 6, 7, 8, requires_grad=True)
    guess = torch.randn(2, 6, 7, 8, requires_grad=True)
    assert agreement_loss(head, truth, truth) < agreement_loss(head, guess, truth)
    agreement_loss(head, guess, truth).backward()
    assert truth.grad is None
    assert guess.grad is not None
