"""The steps of a training in the folder of a run: pca, head, forecaster, vae, renderer, finisher."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator

from re2pix_node.common.atomic_write import write_beside
from re2pix_node.errors import BAD_INPUT, Re2pixError
from re2pix_node.footage.label_space import CITYSCAPES
from re2pix_node.training.cached_samples import LabelledSamples, common_space
from re2pix_node.training.encoded_footage import footage
from re2pix_node.training.family import family_of
from re2pix_node.training.head import HeadTask
from re2pix_node.training.loop import StoppedError, train
from re2pix_node.training.pca import learn_basis
from re2pix_node.training.processes import join, leave
from re2pix_node.training.run_folder import RunFolder, read_run_folder, start_run
from re2pix_node.training.stored import store
from re2pix_node.training.trained import plain_state, read_basis


def run_step(step: str, run_file: Path, output: Path, force: bool) -> int:
    """Train one step in all processes that `accelerate launch` started; a single process returns the exit code."""
    accelerator = join()
    try:
        code = _run_step(step, run_file, output, force, accelerator)
    except Re2pixError as error:
        if accelerator.num_processes == 1:
            raise
        print(f"re2pix train: {error}", file=sys.stderr)
        leave(BAD_INPUT)
    accelerator.end_training()
    if accelerator.num_processes > 1:
        leave(code)
    return code


def _run_step(step: str, run_file: Path, output: Path, force: bool, accelerator: Accelerator) -> int:
    if accelerator.is_main_process:
        start_run(step, run_file, output, force)
    accelerator.wait_for_everyone()
    run = read_run_folder(output)
    try:
        said = _training(step)(run, accelerator)
    except StoppedError as stopped:
        if accelerator.is_main_process:
            print(f"re2pix train: {stopped}", file=sys.stderr)
        return stopped.code
    if accelerator.is_main_process:
        print(f"{run.result(step)}: {said}")
    return 0


def _training(step: str) -> Callable[[RunFolder, Accelerator], str]:
    if step in ("vae", "renderer", "finisher"):
        # Imported here, because only these need diffusers.
        from re2pix_node.training.pictures.steps import train_finisher, train_renderer, train_vae

        return {"vae": train_vae, "renderer": train_renderer, "finisher": train_finisher}[step]
    return {"pca": train_pca, "head": train_head, "forecaster": train_forecaster}[step]


def train_pca(run: RunFolder, accelerator: Accelerator) -> str:
    file = run.result("pca")
    if accelerator.is_main_process and not file.is_file():
        basis = learn_basis(run.spec)
        with write_beside(file) as partial:
            partial.write_bytes(basis.to_bytes())
    accelerator.wait_for_everyone()
    basis = read_basis(run)
    return f"{len(basis.components)} of {len(basis.mean)} channels keep {basis.explained:.1%} of the variance"


def train_forecaster(run: RunFolder, accelerator: Accelerator) -> str:
    spec = run.spec
    training = family_of(spec).training(run)
    figures = train(training.task, spec.forecaster, spec.seed, run.result("forecaster").parent, accelerator)
    if accelerator.is_main_process:
        store(run.result("forecaster"), {"model": plain_state(training.net), "figures": figures})
    ratio = figures["of copying"]
    return f"SmoothL1 is {ratio:.3f} of that of copying the newest frame, on {training.note}"


def train_head(run: RunFolder, accelerator: Accelerator) -> str:
    spec = run.spec
    data, val_data, clips, val_clips, note = footage(run)
    flat = [clip for of_entry in clips for clip in of_entry]
    space = CITYSCAPES if spec.head.labels == "cityscapes19" else common_space(flat)
    samples = LabelledSamples(data, clips, space, spec.seed)
    val = LabelledSamples(val_data, val_clips, space, spec.seed)
    torch.manual_seed(spec.seed)
    task = HeadTask(spec, samples, val, space)
    before = train(task, spec.head, spec.seed, run.result("head").parent, accelerator)
    accelerator.wait_for_everyone()
    task.calibrate(accelerator.device)
    sums = task.empty()
    with torch.no_grad():
        for batch in task.val_batches(0, 1):
            moved = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
            for name, value in task.measure(task.model, moved).items():
                sums[name] += value.cpu()
    after = task.summary(sums)
    if accelerator.is_main_process:
        content = {
            "model": plain_state(task.model.net),
            "temperature": task.temperature,
            "ids": list(space.ids),
            "names": list(space.names),
            "figures": after,
        }
        store(run.result("head"), content)
    return (
        f"mIoU {after['miou']:.3f}, accuracy {after['accuracy']:.3f}; calibration error {after['ece']:.4f} at "
        f"temperature {task.temperature:.3f} ({before['ece']:.4f} before), on {note}"
    )
