import torch

from re2pix_node.nets.dino_foresight.masked_transformer import MaskedTransformer
from tests.support import reference
from tests.support import small_checkpoints as files

GRID = (files.ROWS, files.COLUMNS)
OTHERS = ("dino_v2.", "pca_", "mean", "std")


def make() -> tuple[MaskedTransformer, files.Tensors]:
    torch.manual_seed(2)
    tensors = {name: t for name, t in files.forecaster_tensors().items() if not name.startswith(OTHERS)}
    net = MaskedTransformer(GRID, files.CHANNELS, files.WIDTH, files.LAYERS, files.HEADS).eval()
    net.load_state_dict(tensors)  # strict: the names are those of the published files
    return net, tensors


@torch.inference_mode()
def test_the_next_frame_is_that_of_the_plain_model() -> None:
    net, tensors = make()
    context = torch.randn(2, 4, *GRID, files.CHANNELS)
    for found, clip in zip(net(context), context, strict=True):
        torch.testing.assert_close(found, reference.next_frame(tensors, clip, files.HEADS), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_rollout_slides_over_its_own_forecasts() -> None:
    net, tensors = make()
    context = torch.randn(4, *GRID, files.CHANNELS)
    found = net.rollout([frame[None] for frame in context], 6)
    wanted = reference.rollout(tensors, context, files.HEADS, 6)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x[0], y, rtol=1e-3, atol=1e-3)
    # After four steps the window holds forecasts only, and moves on all the same.
    assert (found[5] - found[4]).norm() / found[4].norm() > 0.01


@torch.inference_mode()
def test_every_context_frame_counts_and_the_order_does() -> None:
    net, _ = make()
    context = torch.randn(1, 4, *GRID, files.CHANNELS)
    before = net(context)
    for i in range(4):
        changed = context.clone()
        changed[:, i] += 1
        assert (net(changed) - before).norm() / before.norm() > 1e-3
    assert (net(context.flip(1)) - before).norm() / before.norm() > 1e-3


def test_the_loss_is_smooth_l1_of_the_last_frame() -> None:
    net, _ = make()
    frames = torch.randn(2, 5, *GRID, files.CHANNELS)
    error = (net(frames[:, :4]) - frames[:, 4]).abs()
    wanted = torch.where(error < 0.1, error**2 / 0.2, error - 0.05).mean()
    torch.testing.assert_close(net.loss(frames), wanted)


def test_a_fresh_model_forecasts_the_same_whatever_it_sees_and_learns() -> None:
    torch.manual_seed(0)
    net = MaskedTransformer((2, 3), channels=8, width=24, depth=2, heads=4, dropout=0.1)
    start = torch.randn(16, 1, 2, 3, 8)
    frames = start + 0.3 * torch.arange(5).view(1, 5, 1, 1, 1)  # everything grows steadily
    fresh = net(frames[:, :4])
    assert torch.equal(fresh, fresh[:1, :1, :1].expand_as(fresh))
    first = net.loss(frames).item()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(50):
        optimiser.zero_grad()
        net.loss(frames).backward()
        optimiser.step()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert net.eval().loss(frames).item() < 0.4 * first
