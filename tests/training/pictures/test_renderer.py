"""The steps vae, renderer and finisher: pictures beside features, what is learnt from them, and the commands."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from re2pix_node.cli import main
from re2pix_node.errors import TrainingError
from re2pix_node.footage.clips import open_clips
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.nets.backbones.mobilesam import MobileSamEncoder
from re2pix_node.nets.nano.forecaster import NanoForecaster
from re2pix_node.nets.pictures.renderer import LEAST_SIGMA
from re2pix_node.nets.pictures.vae import PictureCoder, build_vae
from re2pix_node.training.feature_cache import CachedClip
from re2pix_node.training.nano.loss import nano_options
from re2pix_node.training.pictures.clip_pictures import clip_pictures
from re2pix_node.training.pictures.finisher import FinishLoss, FinishTask
from re2pix_node.training.pictures.renderer import (
    RenderSamples,
    RenderTask,
    kept_channels,
    predicted_share,
    renderer_options,
)
from re2pix_node.training.pictures.steps import read_finisher, read_renderer, read_vae
from re2pix_node.training.pictures.vae import vae_options
from re2pix_node.training.run_file import DataEntry, RendererSpec, RunFile, differences, read_run_file
from re2pix_node.training.run_folder import read_run_folder
from tests.support.made_runs import (
    HEIGHT,
    SMALL_FINISHER,
    SMALL_RENDERER,
    SMALL_VAE,
    WIDTH,
    make_footage,
    write_pictures,
    write_run,
)
from tests.training.test_cached_samples import OWN

CHANNELS = 12


def spec_of(
    folder: Path, vae: dict | None = None, renderer: dict | None = None, finisher: dict | None = None
) -> RunFile:
    vae, renderer = {**SMALL_VAE, **(vae or {})}, {**SMALL_RENDERER, **(renderer or {})}
    finisher = {**SMALL_FINISHER, **(finisher or {})}
    return read_run_file(write_run(folder / "run.yaml", vae=vae, renderer=renderer, finisher=finisher))


def encoded_clip(folder: Path, frames: int, rate: float) -> CachedClip:
    """Features that are the number of their frame."""
    folder.mkdir(parents=True)
    shape = (frames, HEIGHT // 8, WIDTH // 8, CHANNELS + 16)
    np.save(folder / "features.npy", np.ones(shape, np.float16) * np.arange(frames)[:, None, None, None])
    clip = open_clips(folder.parent / "drive")[0]
    np.save(folder / "stamps.npy", np.array(clip.stamps)[:frames])
    np.save(folder / "labelled.npy", np.zeros(0, np.int64))
    return CachedClip(folder, "drive", OWN, ())


def test_pictures_lie_beside_features_frame_by_frame(tmp_path: Path) -> None:
    write_pictures(tmp_path / "drive")
    spec = spec_of(tmp_path)
    entry = DataEntry(str(tmp_path / "drive"), mirror=True)
    plain, mirrored = (encoded_clip(tmp_path / name, 14, 7.0) for name in ("plain", "mirrored"))
    np.save(plain.path / "stamps.npy", plain.stamps[::3])  # as `rate` thins it out
    pictures = clip_pictures([entry], [[dataclasses.replace(plain), mirrored]], spec.backbone)
    frames = list(open_clips(tmp_path / "drive")[0].frames(range(14)))
    fitted = [fit_frame(frame, HEIGHT, WIDTH, "crop")[0] for frame in frames]
    np.testing.assert_array_equal(pictures[0], np.stack(fitted[::3]))
    np.testing.assert_array_equal(pictures[1], np.stack(fitted)[:, :, ::-1])
    written = (plain.path / "pictures.npy").stat().st_mtime_ns
    clip_pictures([entry], [[plain, mirrored]], spec.backbone)
    assert (plain.path / "pictures.npy").stat().st_mtime_ns == written


def numbered(frames: int, first: int = 0) -> np.ndarray:
    """Pictures whose red is the number of the frame, green the row, blue the column."""
    made = np.zeros((frames, HEIGHT, WIDTH, 3), np.uint8)
    made[..., 0] = first + np.arange(frames)[:, None, None]
    made[..., 1] = np.arange(HEIGHT)[:, None]
    made[..., 2] = np.arange(WIDTH)
    return made


def render_task(folder: Path, **renderer: object) -> RenderTask:
    write_pictures(folder / "drive")
    spec = spec_of(folder, renderer=renderer)
    clip = encoded_clip(folder / "clip", 14, 7.0)
    entry = DataEntry(str(folder / "drive"))
    samples = RenderSamples([entry], [[clip]], [numbered(14)], spec.time, spec.seed)
    torch.manual_seed(0)
    coder = PictureCoder(build_vae(vae_options(spec))).eval().requires_grad_(False)
    forecaster = NanoForecaster(nano_options(spec)).eval().requires_grad_(False)
    return RenderTask(spec, samples, samples, coder, forecaster)


def is_drawn_by_step_and_rank(task: RenderTask | FinishTask, batch: dict[str, torch.Tensor]) -> None:
    """`batch` is that of step 3, and two processes share it."""
    again = task.batch(3, 0, 1)
    assert all((again[name] == batch[name]).all() for name in batch)
    halves = [task.batch(3, rank, 2) for rank in range(2)]
    assert all((halves[1][name] == batch[name][1::2]).all() for name in batch)


def test_samples_are_of_one_moment_and_its_future(tmp_path: Path) -> None:
    task = render_task(tmp_path)
    batch = task.batch(3, 0, 1)
    now, then = batch["pictures"].unbind(1)
    last = batch["context"][:, -1, 0, 0, 0]
    assert (now[:, 0, 0, 0] == last).all()
    assert (then[:, 0, 0, 0] == batch["future"][:, 0, 0, 0]).all()
    spacing = last - batch["context"][:, -2, 0, 0, 0]
    assert (batch["future"][:, 0, 0, 0] - last == spacing * (batch["horizon"] + 1)).all()
    is_drawn_by_step_and_rank(task, batch)


def test_no_channel_is_told_that_nested_dropout_took(tmp_path: Path) -> None:
    """What the network hears is a prefix of the features, true or said by the forecaster."""
    task = render_task(tmp_path)
    heard = {}
    task.model.net.register_forward_pre_hook(lambda _, given: heard.update(features=given[2]))
    batch = task.batch(3, 0, 1)
    batch["kept"] = torch.tensor([0, 5, CHANNELS, CHANNELS])
    batch["predicted"] = torch.tensor([False, False, False, True])
    task.model(**batch)
    told, future = heard["features"], batch["future"][..., :CHANNELS]
    assert (told[0] == 0).all()
    assert (told[1, ..., :5] == future[1, ..., :5]).all()
    assert (told[1, ..., 5:] == 0).all()
    assert (told[2] == future[2]).all()
    said, *_ = task.model.given(**{name: batch[name] for name in ("context", "pictures", "horizon")})
    torch.testing.assert_close(told[3], said[3])
    assert (told[3] != future[3]).any()


def test_the_loss_is_of_pictures_mixed_with_noise_by_sigma(tmp_path: Path) -> None:
    """As sampling has it: noise alone at sigma 1, and velocities, which are errors of the picture over sigma."""
    task = render_task(tmp_path)
    seen = {}
    task.model.net.register_forward_hook(lambda _, given, said: seen.update(noisy=given[0], said=said))
    batch = task.batch(3, 0, 1)
    batch["sigma"] = torch.tensor([LEAST_SIGMA / 2, 0.3, 0.6, 1.0])
    loss, _ = task.model(**batch)
    _, clean, _ = task.model.given(**batch)
    sigma = batch["sigma"].view(-1, 1, 1, 1)
    torch.testing.assert_close(seen["noisy"], (1 - sigma) * clean + sigma * batch["noise"])
    torch.testing.assert_close(loss, ((seen["said"] - clean) / sigma.clamp(min=LEAST_SIGMA)).square().mean())


def test_both_strategies_have_their_switch() -> None:
    spec = RendererSpec(steps=100, nested=0.5, dropped=0.1, predicted=0.8, rise=0.5)
    assert [round(predicted_share(spec, step), 2) for step in (0, 25, 50, 100)] == [0, 0.4, 0.8, 0.8]
    chances = np.random.default_rng(0).random((2, 20_000))
    kept = kept_channels(spec, CHANNELS, chances)
    assert abs((kept == 0).mean() - 0.1) < 0.01
    part = kept[(kept > 0) & (kept < CHANNELS)]
    assert abs(len(part) / len(kept) - 0.5 * (CHANNELS - 1) / CHANNELS) < 0.01
    assert abs(np.bincount(part, minlength=CHANNELS)[1:] / len(part) - 1 / (CHANNELS - 1)).max() < 0.01
    off = dataclasses.replace(spec, nested=0.0, dropped=0.0, predicted=0.0)
    assert (kept_channels(off, CHANNELS, chances) == CHANNELS).all()
    assert predicted_share(off, 100) == 0


def test_validation_begins_at_the_moved_picture(tmp_path: Path) -> None:
    task = render_task(tmp_path)
    sums = task.empty()
    with torch.no_grad():
        for batch in task.val_batches(0, 1):
            for name, value in task.measure(task.model, batch).items():
                sums[name] += value
    assert sums["moved"] > 0
    assert task.summary(sums)["of moving on"] == pytest.approx(1)


def finish_task(folder: Path, **finisher: object) -> FinishTask:
    task = render_task(folder)
    spec = spec_of(folder, finisher=finisher)
    forecaster = NanoForecaster(nano_options(spec)).eval().requires_grad_(False)
    coder = PictureCoder(build_vae(vae_options(spec))).eval().requires_grad_(False)
    backbone = MobileSamEncoder().eval().requires_grad_(False)
    renderer = task.model.net.eval().requires_grad_(False)
    loss = FinishLoss(spec, coder, renderer, forecaster, backbone)
    return FinishTask(spec, task._train, task._val, loss)


def test_the_finisher_sees_the_same_part_of_everything(tmp_path: Path) -> None:
    task = finish_task(tmp_path)
    batch = task.batch(3, 0, 1)
    corner = batch["corner"]
    assert len(corner.unique(dim=0)) > 1
    drawn, moved, drawn_picture, moved_picture, true = task.model.given(cells=4, **batch)
    whole = task.model.given(cells=None, **batch)
    for each, (y, x) in enumerate(corner.tolist()):
        cells, pixels = ((..., slice(s * y, s * (y + 4)), slice(s * x, s * (x + 4))) for s in (1, 8))
        for part, all_of_it in ((true, whole[4]), (moved_picture, whole[3])):
            assert (part[each] == all_of_it[each][pixels]).all()
        for part, all_of_it in ((drawn, whole[0]), (moved, whole[1])):
            assert (part[each] == all_of_it[each][cells]).all()
    assert drawn_picture.shape == true.shape == (4, 3, 32, 32)
    is_drawn_by_step_and_rank(task, batch)


def test_the_finisher_learns_from_what_the_renderer_draws(tmp_path: Path) -> None:
    task = finish_task(tmp_path)
    optimizer = torch.optim.AdamW(task.model.net.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss, _ = task.model(**task.batch(1, 0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_the_commands_leave_a_renderer_that_can_be_read(trained_run: Path) -> None:
    run = read_run_folder(trained_run)
    coder = read_vae(run)
    net = read_renderer(run, coder)
    assert net.options == renderer_options(run.spec, 4)
    assert float(net.leave.weight.abs().sum()) > 0
    assert float((coder.std - 1).abs().max()) > 0
    assert float(read_finisher(run, coder).leave.weight.abs().sum()) > 0
    for step in ("vae", "renderer", "finisher"):
        lines = [json.loads(line) for line in (trained_run / step / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [2, 4]


def small_kl(channels: tuple[int, ...], **more: int) -> AutoencoderKL:
    stages = len(channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * stages, up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=channels, layers_per_block=1, norm_num_groups=4, latent_channels=4, **more,
    )  # fmt: skip


def test_an_autoencoder_of_diffusers_is_used_as_it_is(tmp_path: Path) -> None:
    """Nothing of it is trained, and it is stored whole: its own folder may go."""
    make_footage(tmp_path)
    torch.manual_seed(1)
    given = small_kl((8, 8, 8, 8))
    given.save_pretrained(tmp_path / "kl")
    file = write_run(tmp_path / "kl.yaml", vae={**SMALL_VAE, "pretrained": "kl"})
    for step in ("pca", "vae"):
        assert main(["train", step, str(file), "-o", str(tmp_path / "kl-run")]) == 0
    shutil.rmtree(tmp_path / "kl")
    coder = read_vae(read_run_folder(tmp_path / "kl-run"))
    for name, tensor in given.state_dict().items():
        torch.testing.assert_close(coder.vae.state_dict()[name], tensor)
    planes = torch.rand(1, 3, HEIGHT, WIDTH) * 2 - 1
    with torch.inference_mode():
        expected = given.encode(planes).latent_dist.mean
        torch.testing.assert_close(coder.encode(planes), (expected - coder.mean) / coder.std, atol=1e-4, rtol=0)
        assert coder.decode(coder.encode(planes)).shape == planes.shape


def test_the_run_of_the_renderer_is_that_of_the_shipped_bundle_and_goes_on() -> None:
    folder = Path(__file__).parents[3] / "config/train"
    shipped, further = (read_run_file(folder / f"{name}.yaml") for name in ("nano", "renderer"))
    assert {name.partition(".")[0] for name in differences(shipped, further)} == {"vae", "renderer", "finisher"}
    assert renderer_options(further, vae_options(further).latents).hidden == 256


def test_what_is_missing_or_does_not_fit_is_told(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    write_run(other, trained_run.parent, vae={**SMALL_VAE, "noise": 0.2}, renderer=SMALL_RENDERER)
    assert main(["train", "renderer", str(other), "-o", str(trained_run)]) == 2
    assert "vae.noise differs" in capsys.readouterr().err
    assert main(["train", "renderer", str(other), "-o", str(tmp_path / "new")]) == 2
    assert "forecaster/weights.pt: is missing: make it first: re2pix train forecaster" in capsys.readouterr().err
    with pytest.raises(TrainingError, match=r"small: renderer\.model: unknown field 'hiden'; known are"):
        renderer_options(spec_of(tmp_path, renderer={"model": {"hiden": 3}}), 4)
    with pytest.raises(TrainingError, match=r"small: vae\.model: patch 2 and 1 encoder_blocks make 2 pixels"):
        vae_options(spec_of(tmp_path, vae={"model": {"encoder_blocks": [1]}}))
    coarse = dataclasses.replace(
        read_run_file(other), backbone=dataclasses.replace(spec_of(tmp_path).backbone, cell=16)
    )
    with pytest.raises(TrainingError, match=r"backbone\.cell: a latent covers 8 pixels, .* is 16"):
        renderer_options(coarse, 4)
    with pytest.raises(TrainingError, match=r"finisher\.crop: must be at most 64, is 128"):
        finish_task(tmp_path, crop=128)
    with pytest.raises(TrainingError, match="not be more than 1 together"):
        spec_of(tmp_path, renderer={"nested": 0.8, "dropped": 0.3})
