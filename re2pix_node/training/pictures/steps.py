"""The steps that train the picture networks: vae, renderer, finisher. Unlike the others they need diffusers."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import nn

from re2pix_node.errors import TrainingError
from re2pix_node.nets.forecaster import Forecaster
from re2pix_node.nets.pictures.finisher import Finisher
from re2pix_node.nets.pictures.renderer import PictureTransformer
from re2pix_node.nets.pictures.vae import PictureCoder, vae_facts, vae_of
from re2pix_node.training.encoded_footage import Clips, footage
from re2pix_node.training.frame_encoder import load_backbone
from re2pix_node.training.loop import train
from re2pix_node.training.pictures.clip_pictures import clip_pictures
from re2pix_node.training.pictures.finisher import FinishLoss, FinishTask, finisher_options
from re2pix_node.training.pictures.renderer import RenderSamples, RenderTask, renderer_options
from re2pix_node.training.pictures.vae import Crops, VaeTask
from re2pix_node.training.run_file import DataEntry
from re2pix_node.training.run_folder import RunFolder
from re2pix_node.training.stored import read_stored, store
from re2pix_node.training.trained import plain_state, read_forecaster


def train_vae(run: RunFolder, accelerator: Accelerator) -> str:
    spec = run.spec
    least = min(spec.backbone.height, spec.backbone.width)
    if spec.vae.crop > least and not spec.vae.pretrained:
        raise TrainingError(f"{spec.name}: vae.crop: must be at most {least}, is {spec.vae.crop}")
    data, val_data, clips, val_clips, note = footage(run)

    def crops(entries: Sequence[DataEntry], of_entries: Clips) -> Crops:
        weights = [entry.weight for entry, of_entry in zip(entries, of_entries, strict=True) for _ in of_entry]
        return Crops(clip_pictures(entries, of_entries, spec.backbone), weights, spec.vae.crop, spec.seed)

    torch.manual_seed(spec.seed)
    task = VaeTask(spec, crops(data, clips), crops(val_data, val_clips), load_backbone(spec.backbone))
    folder = run.result("vae").parent
    folder.mkdir(exist_ok=True)
    figures = task.judged() if spec.vae.pretrained else train(task, spec.vae, spec.seed, folder, accelerator)
    task.normalise()
    if accelerator.is_main_process:
        net = task.model.net
        store(run.result("vae"), {"vae": vae_facts(net.vae), "model": plain_state(net), "figures": figures})
    return f"pictures come back with a PSNR of {figures['psnr']:.2f} dB, on {note}"


def train_renderer(run: RunFolder, accelerator: Accelerator) -> str:
    spec = run.spec
    forecaster, coder = read_motion(run), read_vae(run)
    samples, val, note = _samples(run)
    torch.manual_seed(spec.seed)
    task = RenderTask(spec, samples, val, coder, forecaster)
    figures = train(task, spec.renderer, spec.seed, run.result("renderer").parent, accelerator)
    if accelerator.is_main_process:
        store(run.result("renderer"), {"model": plain_state(task.model.net), "figures": figures})
    error = figures["of moving on"]
    return f"the error of latents is {error:.3f} of that of the newest picture moved on, on {note}"


def train_finisher(run: RunFolder, accelerator: Accelerator) -> str:
    spec = run.spec
    coder = read_vae(run)
    renderer, forecaster = read_renderer(run, coder), read_motion(run)
    samples, val, note = _samples(run)
    torch.manual_seed(spec.seed)
    loss = FinishLoss(spec, coder, renderer, forecaster, load_backbone(spec.backbone))
    task = FinishTask(spec, samples, val, loss)
    figures = train(task, spec.finisher, spec.seed, run.result("finisher").parent, accelerator)
    if accelerator.is_main_process:
        store(run.result("finisher"), {"model": plain_state(task.model.net), "figures": figures})
    return f"the error of pictures is {figures['pixels']:.3f} of that of the newest one moved on, on {note}"


def _samples(run: RunFolder) -> tuple[RenderSamples, RenderSamples, str]:
    """The samples of training and validation, and a name for the latter."""
    spec = run.spec
    data, val_data, clips, val_clips, note = footage(run)

    def samples(entries: Sequence[DataEntry], of_entries: Clips) -> RenderSamples:
        pictures = clip_pictures(entries, of_entries, spec.backbone)
        return RenderSamples(entries, of_entries, pictures, spec.time, spec.seed)

    return samples(data, clips), samples(val_data, val_clips), note


def read_motion(run: RunFolder) -> Forecaster:
    """The forecaster, frozen; TrainingError where its family finds no motion to move pictures along."""
    forecaster = read_forecaster(run)[0]
    if not forecaster.finds_motion:
        raise TrainingError(
            f"{run.path}: forecaster.family: '{run.spec.forecaster.family}' finds no motion, which the renderer moves "
            "pictures along: train it on a run of another family"
        )
    return forecaster


def read_vae(run: RunFolder) -> PictureCoder:
    """Read the autoencoder, frozen."""
    file = run.needed("vae")
    content = read_stored(file)
    try:
        coder = PictureCoder(vae_of(content["vae"]))
        coder.load_state_dict(content["model"])
        return coder.eval().requires_grad_(False)
    except (KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(f"{file}: does not fit this run ({' '.join(str(error).split())[:200]})") from None


def read_renderer(run: RunFolder, coder: PictureCoder) -> PictureTransformer:
    return _read(run, "renderer", PictureTransformer(renderer_options(run.spec, coder.latents)))


def read_finisher(run: RunFolder, coder: PictureCoder) -> Finisher:
    return _read(run, "finisher", Finisher(finisher_options(run.spec, coder.latents)))


Net = TypeVar("Net", bound=nn.Module)


def _read(run: RunFolder, step: str, net: Net) -> Net:
    """Read the network of a step, frozen."""
    file = run.needed(step)
    try:
        net.load_state_dict(read_stored(file)["model"])
        return net.eval().requires_grad_(False)
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"{file}: does not fit this run ({' '.join(str(error).split())[:200]})") from None
