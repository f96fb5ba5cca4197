"""The folder of a run: its YAML and the results of each training step. A stopped step continues from there."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from re2pix_node.common.atomic_write import remove, write_beside
from re2pix_node.common.files import open_regular
from re2pix_node.errors import TrainingError
from re2pix_node.training.run_file import RunFile, differences, read_run_file, run_text

RUN = "run.yaml"
STEPS = ("pca", "forecaster", "head", "vae", "renderer", "finisher")
BACKBONE = "backbone.sha256"  # of the file of weights, whose path may change
BASIS = "basis.npz"
WEIGHTS = "weights.pt"
RESULTS = {"pca": BASIS, **{step: f"{step}/{WEIGHTS}" for step in STEPS if step != "pca"}}
# The files of each step, and the fields of the run that it uses.
LEAVES = {"pca": (BASIS,), **{step: (step,) for step in STEPS if step != "pca"}}
USES = {
    "pca": ("backbone", "pca", "data.train", "seed"),
    "forecaster": ("backbone", "pca", "time", "data", "forecaster", "seed"),
    "head": ("backbone", "pca", "data", "head", "seed"),
    "vae": ("backbone", "data", "vae", "seed"),
    "renderer": ("backbone", "pca", "time", "data", "forecaster", "vae", "renderer", "seed"),
    "finisher": ("backbone", "pca", "time", "data", "forecaster", "vae", "renderer", "finisher", "seed"),
}
# Steps whose results are invalid when a step is repeated, including itself.
UNDONE = {
    "pca": ("pca", "forecaster", "head", "renderer", "finisher"),
    "forecaster": ("forecaster", "renderer", "finisher"),
    "vae": ("vae", "renderer", "finisher"),
    "renderer": ("renderer", "finisher"),
}
# Fields that may change during a step: they determine when something is checked, stored or used, not the result.
FREE = ("backbone.weights", "val_every", "val_batches", "checkpoint_minutes")
# How a trained renderer draws: may change for the renderer, but not for the finisher, which learns from its pictures.
DRAWING = ("renderer.sampling", "renderer.guidance")
TAKEN = ("pca", "forecaster")  # steps to take from a base, if it has them


@dataclass(frozen=True)
class RunFolder:
    path: Path
    spec: RunFile

    @property
    def cache(self) -> Path:
        return Path(self.spec.cache) if self.spec.cache else self.path / "cache"

    def result(self, step: str) -> Path:
        return self.path / RESULTS[step]

    def needed(self, step: str) -> Path:
        """The result of a step; if it is missing, TrainingError with the command that creates it."""
        file = self.result(step)
        if not file.is_file():
            raise TrainingError(
                f"{file}: is missing: make it first: re2pix train {step} {self.path / RUN} -o {self.path}"
            )
        return file


def start_run(step: str, yaml: Path, folder: Path, force: bool = False) -> RunFolder:
    """The folder for a step of the run in `yaml`: a new one, or one where that step continues.

    Results of other settings are never mixed with these: TrainingError names the field that differs. With `force` the
    step is repeated, and everything built on it too.
    """
    spec = read_run_file(yaml)
    run = RunFolder(folder, spec)
    old = folder / RUN
    if folder.exists() and not old.is_file() and any(folder.iterdir()):
        raise TrainingError(f"{folder}: exists and is not a run (it has no {RUN}): choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be created ({error.strerror}): choose another folder") from None
    if force:
        for later in UNDONE.get(step, (step,)):
            for name in LEAVES[later]:
                remove(folder / name)
    if old.is_file():
        _refuse_mixing(run, yaml, read_run_file(old))
    _note_backbone(run)
    with write_beside(old, replace=True) as partial:
        partial.write_text(run_text(spec), encoding="utf-8")
    if spec.base:
        _take_over(run)
    return run


def read_run_folder(folder: Path) -> RunFolder:
    """Read the run in a folder that `start_run` has made."""
    if not (folder / RUN).is_file():
        raise TrainingError(f"{folder}: is not a run, it has no {RUN}: give the folder that re2pix train wrote to (-o)")
    run = RunFolder(folder, read_run_file(folder / RUN))
    _refuse_other_backbone(run, _sha256_of_backbone(run))
    return run


def _note_backbone(run: RunFolder) -> None:
    """Note which weights the steps of this run use; TrainingError if a step, also of the base, has used others."""
    found = _sha256_of_backbone(run)
    if run.spec.base:
        _refuse_other_backbone(RunFolder(Path(run.spec.base), run.spec), found)
    if any((run.path / name).exists() for step in STEPS for name in LEAVES[step]):
        _refuse_other_backbone(run, found)
    if found:
        with write_beside(run.path / BACKBONE, replace=True) as partial:
            partial.write_text(f"{found}\n")


def _refuse_other_backbone(run: RunFolder, found: str) -> None:
    file = run.path / BACKBONE
    noted = file.read_text().strip() if file.is_file() else ""
    if found and noted and found != noted:
        raise TrainingError(
            f"{run.spec.backbone.weights}: is not the file that the steps in {run.path} have used (sha256 "
            f"{found[:12]}..., not {noted[:12]}...): give that file, choose another folder, or restart all steps with "
            "--force"
        )


def _sha256_of_backbone(run: RunFolder) -> str:
    """Empty if there is no such file, which the step that needs it reports."""
    digest = hashlib.sha256()
    try:
        with open_regular(Path(run.spec.backbone.weights)) as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def _refuse_mixing(run: RunFolder, yaml: Path, before: RunFile) -> None:
    changed = [name for name in differences(before, run.spec) if not name.endswith(FREE)]
    for step in STEPS:
        if any((run.path / name).exists() for name in LEAVES[step]):
            for name in changed:
                if _concerns(name, _used(run, step)) and not (step == "renderer" and name in DRAWING):
                    raise TrainingError(
                        f"{yaml}: {name} differs from {run.path / RUN}, which `train {step}` has used: "
                        f"choose another folder, or restart that step with re2pix train {step} ... --force"
                    )


def _used(run: RunFolder, step: str) -> Sequence[str]:
    """The fields that a step used. A step taken from a base did not see the footage of this run."""
    taken = run.spec.base and step in TAKEN and (Path(run.spec.base) / RESULTS[step]).is_file()
    return [name for name in USES[step] if not taken or name.partition(".")[0] not in ("data", "seed")]


def _concerns(name: str, fields: Sequence[str]) -> bool:
    return any(name == field or name.startswith(f"{field}.") for field in fields)


def _take_over(run: RunFolder) -> None:
    """Copy the results of the base, so that the run stays complete when the base is gone."""
    for step in TAKEN:
        source, target = Path(run.spec.base) / RESULTS[step], run.result(step)
        if source.is_file() and not target.exists():
            target.parent.mkdir(exist_ok=True)
            with write_beside(target) as partial:
                shutil.copyfile(source, partial)
