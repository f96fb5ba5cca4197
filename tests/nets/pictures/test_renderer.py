"""The renderer: it starts from the moved picture and learns from features. Its graph draws the same pictures."""

import numpy as np
import onnxruntime
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from re2pix_node.common.quiet_openvino import import_openvino
from re2pix_node.nets.backbones.mobilesam import MobileSamEncoder
from re2pix_node.nets.nano.forecaster import NanoForecaster, NanoOptions
from re2pix_node.nets.onnx_export import exported
from re2pix_node.nets.pictures.finisher import Finisher, FinisherOptions, contrast
from re2pix_node.nets.pictures.renderer import (
    PictureTransformer,
    RendererOptions,
    RenderGraph,
    likely,
    moved_on,
    sample,
    sigmas,
)
from re2pix_node.nets.pictures.vae import PictureCoder, VaeOptions, build_vae, pictures_of, planes_of, unlikeness
from tests.support import drive

OPTIONS = RendererOptions(channels=6, latents=4, height=8, width=16, hidden=32, depth=1, heads=2)
VAE = VaeOptions(width=8, latents=4, encoder_blocks=(0, 1, 1), decoder_blocks=(1, 1, 1))
NANO = NanoOptions(
    channels=6, carried=16, height=8, width=16, context=2, horizons=(1, 3),
    hidden=12, depth=1, heads=2, motion_hidden=8, motion_depth=1,
)  # fmt: skip


def latents(number: int, seed: int, channels: int = 4) -> torch.Tensor:
    return torch.randn(number, channels, 8, 16, generator=torch.Generator().manual_seed(seed))


def cells(number: int, seed: int) -> torch.Tensor:
    return latents(number, seed, 6).permute(0, 2, 3, 1)


def small_coder() -> PictureCoder:
    torch.manual_seed(3)
    return PictureCoder(build_vae(VAE)).eval().requires_grad_(False)


def test_it_weighs_the_noisy_picture_against_the_moved_one() -> None:
    net, noisy, moved = PictureTransformer(OPTIONS), latents(2, 0), latents(2, 1)
    given = noisy, torch.tensor([1.0, 0.001]), cells(2, 2), moved, torch.tensor([1.0, 3.0])
    said = net(*given)
    torch.testing.assert_close(said[0], moved[0])  # of pure noise nothing is known
    torch.testing.assert_close(said[1], noisy[1], atol=0.01, rtol=0)
    torch.nn.init.normal_(net.leave.weight, std=0.2)
    assert (net(*given)[0] - moved[0]).abs().mean() > 0.1
    torch.testing.assert_close(net(*given)[1], noisy[1], atol=0.01, rtol=0)  # a picture all but clean stays


def test_the_first_guess_is_the_best_for_what_lies_around_the_moved_picture() -> None:
    """Against a spread of 0.7 around it, no other share of the noisy latents has a smaller error."""
    moved = latents(64, 0)
    clean = moved + 0.7 * latents(64, 1)
    for sigma in (0.3, 0.6, 0.9):
        noisy = (1 - sigma) * clean + sigma * latents(64, 2)
        said = likely(noisy, torch.tensor(sigma), moved)
        error = (said - clean).square().mean()
        for other in (0.7, 1.3):
            assert error < (moved + other * (said - moved) - clean).square().mean()


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_sampling_is_that_of_diffusers(steps: int) -> None:
    net, moved, told, ahead = PictureTransformer(OPTIONS), latents(1, 1), cells(1, 2), torch.tensor([2.0])
    torch.nn.init.normal_(net.leave.weight, std=0.2)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=sigmas(steps)[:-1])
    with torch.inference_mode():
        expected = latents(1, 0)
        for sigma, timestep in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
            velocity = (expected - net(expected, sigma[None], told, moved, ahead)) / sigma
            expected = scheduler.step(velocity, timestep, expected).prev_sample
        found = sample(net, latents(1, 0), told, moved, ahead, steps, 1.0)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_guidance_goes_beyond_what_features_change() -> None:
    net, moved, told, ahead = PictureTransformer(OPTIONS), latents(1, 1), cells(1, 2), torch.tensor([2.0])
    torch.nn.init.normal_(net.leave.weight, std=0.2)
    with torch.inference_mode():
        none = sample(net, latents(1, 0), torch.zeros_like(told), moved, ahead, 1, 1.0)
        plain = sample(net, latents(1, 0), told, moved, ahead, 1, 1.0)
        double = sample(net, latents(1, 0), told, moved, ahead, 1, 2.0)
    assert (plain - none).abs().max() > 0.01
    torch.testing.assert_close(double - plain, plain - none, atol=1e-4, rtol=1e-3)


def test_it_learns_what_features_tell() -> None:
    """What the first channel says has come to the moved picture."""
    torch.manual_seed(0)
    net = PictureTransformer(OPTIONS)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)

    def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        moved, told = latents(16, seed), cells(16, seed + 1)
        return moved, told, moved + told.permute(0, 3, 1, 2)[:, :1]

    ahead = torch.ones(16)
    for step in range(150):
        moved, told, clean = drawn(10 * step)
        sigma = torch.rand(16, generator=torch.Generator().manual_seed(step)).clamp(min=0.05)
        share = sigma.view(-1, 1, 1, 1)
        said = net((1 - share) * clean + share * latents(16, 10 * step + 2), sigma, told, moved, ahead)
        loss = ((said - clean) / share).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved, told, clean = drawn(100_000)
    with torch.inference_mode():
        found = sample(net, latents(16, 5), told, moved, ahead, 4, 1.0)
        blind = sample(net, latents(16, 5), torch.zeros_like(told), moved, ahead, 4, 1.0)
    error, untold, begun = ((x - clean).square().mean() for x in (found, blind, moved))
    assert error < 0.5 * begun
    assert error < 0.5 * untold


def test_a_picture_moves_by_whole_cells_as_it_is() -> None:
    now = torch.from_numpy(np.stack([drive.frame(0.0, 128, 64)]))
    right = torch.zeros(1, 2, 8, 16)
    right[:, 0] = 2
    moved = pictures_of(moved_on(now, right))
    assert (moved[:, :, :-16] == now[:, :, 16:]).all()


def test_finishing_begins_with_most_of_the_moved_picture_and_learns_which_to_believe() -> None:
    """The truth is the moved picture where latents agree, and the drawn picture where they do not."""
    torch.manual_seed(0)
    net = Finisher(FinisherOptions(latents=4, width=16, blocks=1, coarse=16))
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)

    def given(seed: int) -> tuple[torch.Tensor, ...]:
        rng = torch.Generator().manual_seed(seed)
        drawn_picture, moved_picture = torch.rand(2, 8, 3, 64, 128, generator=rng) * 2 - 1
        moved = latents(8, seed)
        changed = torch.rand(8, 1, 8, 16, generator=rng) < 0.5
        where = torch.nn.functional.interpolate(changed.float(), scale_factor=8.0)
        return moved + 2 * changed, moved, drawn_picture, moved_picture, moved_picture.lerp(drawn_picture, where)

    *shown, true = given(1)
    begun = net(*shown)
    torch.testing.assert_close(begun, shown[2].lerp(shown[3], torch.sigmoid(torch.tensor(1.0))))
    for step in range(80):
        *shown, true = given(step + 2)
        loss = (net(*shown) - true).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    *shown, true = given(1)
    assert (net(*shown) - true).abs().mean() < 0.5 * (begun - true).abs().mean()


def test_a_blur_takes_contrast_away_and_a_shift_does_not() -> None:
    true, shifted = (planes_of(torch.from_numpy(drive.frame(0.0, 144, 64)[None, :, x : x + 128])) for x in (0, 8))
    blurred = torch.nn.functional.avg_pool2d(true, 5, 1, padding=2)
    fine, *_ = contrast(true)
    assert [tuple(scale.shape[2:]) for scale in contrast(true)] == [(64, 128), (32, 64), (16, 32)]
    assert contrast(blurred)[0].mean() < 0.7 * fine.mean()
    assert contrast(shifted)[0].mean() == pytest.approx(float(fine.mean()), rel=0.15)


def test_bytes_survive_the_way_to_planes_and_back() -> None:
    pictures = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert (pictures_of(planes_of(pictures)) == pictures).all()


def test_latents_are_normalised_and_come_back_the_same() -> None:
    coder = small_coder()
    planes = planes_of(torch.from_numpy(drive.frame(0.0, 128, 64)[None]))
    decoded, raw = coder.decode(coder.encode(planes)), coder.encode(planes)
    coder.mean.fill_(0.3)
    coder.std.fill_(2.0)
    torch.testing.assert_close(coder.encode(planes), (raw - 0.3) / 2)
    torch.testing.assert_close(coder.decode(coder.encode(planes)), decoded, atol=1e-4, rtol=0)
    assert raw.shape == (1, 4, 8, 16)


def test_looks_are_the_same_for_the_same_and_differ_more_for_other_places() -> None:
    torch.manual_seed(0)
    backbone = MobileSamEncoder().eval()
    one, near, far = (planes_of(torch.from_numpy(drive.frame(t, 128, 64)[None])) for t in (0.0, 0.1, 3.0))
    with torch.inference_mode():
        same, little, much = (float(unlikeness(backbone, one, other)) for other in (one, near, far))
    assert same == 0
    assert 0 < little < much


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="the grid must be even, is 15 x 8"):
        RendererOptions(channels=6, latents=4, height=8, width=15)
    with pytest.raises(ValueError, match="cannot be shared by 5 heads"):
        RendererOptions(channels=6, latents=4, height=8, width=16, heads=5)
    with pytest.raises(ValueError, match="make 4 pixels a latent, must be 8"):
        VaeOptions(patch=1)


@pytest.mark.long  # an export and four engines
def test_the_graph_draws_what_pytorch_draws_in_every_engine() -> None:
    """With guidance; without, which is a part of that, in training/test_export.py."""
    torch.manual_seed(0)
    net, forecaster = PictureTransformer(OPTIONS), NanoForecaster(NANO)
    torch.nn.init.normal_(net.leave.weight, std=0.1)
    torch.nn.init.normal_(forecaster.motion.change.weight, std=0.05)
    finisher = Finisher(FinisherOptions(latents=4, width=8))
    torch.nn.init.normal_(finisher.leave.weight, std=0.1)
    graph = RenderGraph(net, small_coder(), finisher, forecaster, 2, 1.5).eval()
    inputs = {
        "features": cells(1, 2),
        "frame": torch.from_numpy(drive.frame(0.0, 128, 64)[None]),
        "horizon": torch.tensor([1.0]),
        "noise": latents(1, 0).flatten(1),
        **{f"context_{i}": torch.randn(1, 8, 16, 22, generator=torch.Generator().manual_seed(i)) for i in range(2)},
    }
    with torch.inference_mode():
        expected = graph(*inputs.values()).numpy()
        other_noise = graph(*(inputs | {"noise": latents(1, 9).flatten(1)}).values()).numpy()
        nearer = graph(*(inputs | {"horizon": torch.tensor([0.0])}).values()).numpy()
    assert expected.shape == (1, 64, 128, 3)
    assert -200 < expected.min() < 100 < expected.max() < 455
    assert (np.abs(other_noise - expected) > 1).mean() > 0.2
    assert (np.abs(nearer - expected) > 1).mean() > 0.1
    data = exported(graph, inputs, ["image"]).SerializeToString()
    fed = {name: tensor.numpy() for name, tensor in inputs.items()}
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (by_onnxruntime,) = session.run(["image"], fed)
    core = import_openvino().Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for found in (by_onnxruntime, compiled(fed)["image"]):
        assert found.dtype == np.float32
        assert (np.abs(found - expected) > 2).mean() < 0.01
