"""The folder of a run: its YAML, and what each step of the training leaves there. A step that was stopped goes on."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from re2pix_node.common.atomic_write import remove, write_beside
from re2pix_node.errors import TrainingError
from re2pix_node.training.run_file import RunFile, differences, read_run_file, run_text

RUN = "run.yaml"
STEPS = ("pca", "forecaster", "head", "vae", "renderer", "finisher")
BASIS = "basis.npz"
WEIGHTS = "weights.pt"
RESULTS = {"pca": BASIS, **{step: f"{step}/{WEIGHTS}" for step in STEPS if step != "pca"}}
# What each step leaves as it works, and the fields of the run it goes by.
LEAVES = {"pca": (BASIS,), **{step: (step,) for step in STEPS if step != "pca"}}
USES = {
    "pca": ("backbone", "pca", "data.train", "seed"),
    "forecaster": ("backbone", "pca", "time", "data", "forecaster", "seed"),
    "head": ("backbone", "pca", "data", "head", "seed"),
    "vae": ("backbone", "data", "vae", "seed"),
    "renderer": ("backbone", "pca", "time", "data", "forecaster", "vae", "renderer", "seed"),
    "finisher": ("backbone", "pca", "time", "data", "forecaster", "vae", "renderer", "finisher", "seed"),
}
# Steps that a step anew makes worthless, itself among them.
UNDONE = {
    "pca": ("pca", "forecaster", "head", "renderer", "finisher"),
    "forecaster": ("forecaster", "renderer", "finisher"),
    "vae": ("vae", "renderer", "finisher"),
    "renderer": ("renderer", "finisher"),
}
# May change while a step is under way: they say when something is looked at, stored or used, not what is learnt.
FREE = ("backbone.weights", "val_every", "val_batches", "checkpoint_minutes")
# How a trained renderer draws: free for the renderer too, but not for the finisher, which learns from what is drawn.
DRAWING = ("renderer.sampling", "renderer.guidance")
TAKEN = ("pca", "forecaster")  # from a base, where it has them


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
        """What a step left; TrainingError with the command that makes it when it is missing."""
        file = self.result(step)
        if not file.is_file():
            raise TrainingError(
                f"{file}: is missing: make it first: re2pix train {step} {self.path / RUN} -o {self.path}"
            )
        return file


def start_run(step: str, yaml: Path, folder: Path, force: bool = False) -> RunFolder:
    """The folder for a step of the run in `yaml`: new, or one where that step goes on.

    What an earlier start did by other settings is never mixed with these: TrainingError names the field. With `force`
    the step starts anew, and so does what was built on it.
    """
    spec = read_run_file(yaml)
    run = RunFolder(folder, spec)
    old = folder / RUN
    if folder.exists() and not old.is_file() and any(folder.iterdir()):
        raise TrainingError(f"{folder}: exists and is no run (it has no {RUN}): choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be made ({error.strerror}): choose another folder") from None
    if force:
        for later in UNDONE.get(step, (step,)):
            for name in LEAVES[later]:
                remove(folder / name)
    if old.is_file():
        _refuse_mixing(run, yaml, read_run_file(old))
    with write_beside(old, replace=True) as partial:
        partial.write_text(run_text(spec), encoding="utf-8")
    if spec.base:
        _take_over(run)
    return run


def read_run_folder(folder: Path) -> RunFolder:
    """The run in a folder that `start_run` has made."""
    if not (folder / RUN).is_file():
        raise TrainingError(f"{folder}: is no run, it has no {RUN}: give the folder that re2pix train wrote to (-o)")
    return RunFolder(folder, read_run_file(folder / RUN))


def _refuse_mixing(run: RunFolder, yaml: Path, before: RunFile) -> None:
    changed = [name for name in differences(before, run.spec) if not name.endswith(FREE)]
    for step in STEPS:
        if any((run.path / name).exists() for name in LEAVES[step]):
            for name in changed:
                if _concerns(name, _used(run, step)) and not (step == "renderer" and name in DRAWING):
                    raise TrainingError(
                        f"{yaml}: {name} is another than in {run.path / RUN}, by which `train {step}` has worked: "
                        f"choose another folder, or start that step anew with re2pix train {step} ... --force"
                    )


def _used(run: RunFolder, step: str) -> Sequence[str]:
    """The fields that a step went by. What was taken over from a base did not see the footage of this run."""
    taken = run.spec.base and step in TAKEN and (Path(run.spec.base) / RESULTS[step]).is_file()
    return [name for name in USES[step] if not taken or name.partition(".")[0] not in ("data", "seed")]


def _concerns(name: str, fields: Sequence[str]) -> bool:
    return any(name == field or name.startswith(f"{field}.") for field in fields)


def _take_over(run: RunFolder) -> None:
    """Copies what the base has trained, so that the run stays whole when the base is gone."""
    for step in TAKEN:
        source, target = Path(run.spec.base) / RESULTS[step], run.result(step)
        if source.is_file() and not target.exists():
            target.parent.mkdir(exist_ok=True)
            with write_beside(target) as partial:
                shutil.copyfile(source, partial)
