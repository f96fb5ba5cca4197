"""Reads a run from one YAML file: footage, backbone, and how each part is trained. See docs/train.md."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from re2pix_node.bundle.manifest import TimeSpec, build
from re2pix_node.common.files import read_text
from re2pix_node.common.limits import TEXT_BYTES
from re2pix_node.common.parts import part_path
from re2pix_node.common.plain_yaml import load_plain_yaml
from re2pix_node.errors import BundleError, TrainingError
from re2pix_node.imaging.geometry import FITS
from re2pix_node.nets.backbone import backbone_kind
from re2pix_node.nets.features import SUB

PRECISIONS = ("fp32", "bf16")
LABELS = ("cityscapes19", "data")
FAMILIES = "re2pix_node.training"
# The fields that a run takes from its base.
INHERITED = ("backbone", "pca", "time", "forecaster")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class BackboneSpec:
    """The frozen model, the size of its picture, and the layers that become features."""

    weights: str
    height: int
    width: int
    kind: str = "mobilesam"  # a file in nets/backbones/
    fit: str = "crop"
    layers: tuple[str, ...] = ("stage1", "stage2")
    cell: int = 8  # pixels of the picture along one side of a cell of features
    picture: bool = True  # whether features carry a small grey picture, in which the forecaster sees motion
    mask: int = 4  # pixels of the picture along one side of a pixel of the masks

    def __post_init__(self) -> None:
        try:
            kind = backbone_kind(self.kind)
        except ValueError as error:
            raise ValueError(f"kind {error}") from None
        _require(self.cell > 0, f"cell must be positive, is {self.cell}")
        fits = not self.picture or self.cell % SUB == 0
        _require(fits, f"cell must be a multiple of {SUB} where features carry a picture, is {self.cell}")
        sides = f"{self.width} x {self.height}"
        _require(min(self.height, self.width) > 0, f"the size must be positive, is {sides}")
        for what, step in ((f"'{self.kind}'", kind.multiple), ("cell", self.cell)):
            _require(
                self.height % step == self.width % step == 0,
                f"height and width must be multiples of {step} ({what}), are {sides}",
            )
        _require(self.fit in FITS, f"fit must be one of {', '.join(FITS)}, is '{self.fit}'")
        _require(self.mask in (1, 2, 4, 8, 16), f"mask must be 1, 2, 4, 8 or 16, is {self.mask}")
        _require(bool(self.layers), "layers is empty")


@dataclass(frozen=True)
class PcaSpec:
    channels: int = 64
    frames: int = 800

    def __post_init__(self) -> None:
        _require(min(self.channels, self.frames) > 0, "channels and frames must be positive")


@dataclass(frozen=True)
class DataEntry:
    """Footage at a path, in any layout of docs/data.md."""

    path: str
    weight: float = 1.0  # how much more often each of its moments is seen than one with weight 1
    rate: float = 0.0  # maximum frames a second; 0 = all
    mirror: bool = False  # also use it mirrored; it is mirrored before encoding

    def __post_init__(self) -> None:
        _require(self.weight > 0, f"weight must be positive, is {self.weight:g}")
        _require(self.rate >= 0, f"rate must not be negative, is {self.rate:g}")


@dataclass(frozen=True)
class DataSpec:
    train: tuple[DataEntry, ...]
    val: tuple[DataEntry, ...] = ()

    def __post_init__(self) -> None:
        _require(bool(self.train), "train is empty")


@dataclass(frozen=True)
class Optimisation:
    """The settings that all trainings have in common."""

    steps: int = 10_000
    batch: int = 16  # samples in a step, over all processes
    learning_rate: float = 1e-3
    warmup: int = 200  # steps in which the learning rate rises
    weight_decay: float = 0.05
    clip: float = 1.0  # maximum norm of the gradient
    average: float = 0.0  # the result is a running mean of the weights with this momentum; 0 = the last weights
    precision: str = "fp32"
    val_every: int = 1000
    val_batches: int = 32
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "learning_rate", "clip", "val_every", "val_batches", "checkpoint_minutes"):
            _require(getattr(self, name) > 0, f"{name} must be positive, is {getattr(self, name):g}")
        _require(self.warmup >= 0, f"warmup must not be negative, is {self.warmup}")
        _require(0 <= self.average < 1, f"average must lie from 0 to below 1, is {self.average:g}")
        _require(self.precision in PRECISIONS, f"precision must be fp32 or bf16, is '{self.precision}'")


@dataclass(frozen=True)
class ForecasterSpec(Optimisation):
    family: str = "nano"  # a folder in training/ and nets/
    model: dict[str, Any] = field(default_factory=dict)  # options of the family's network
    motion: float = 0.5  # weight in the loss of the warped features and picture, before correction
    agreement: float = 0.0  # weight in the loss of the head's labels; above 0 the head must be trained first

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            part_path(FAMILIES, self.family, "family")
        except ValueError as error:
            raise ValueError(f"family {error}") from None


@dataclass(frozen=True)
class HeadSpec(Optimisation):
    labels: str = "cityscapes19"
    model: dict[str, Any] = field(default_factory=dict)  # options of the network, of nets/light_head.py
    moving: tuple[str, ...] = ()  # names of classes that move by themselves, in addition to those of Cityscapes
    rare: float = 0.0  # how much more rare classes count: weight = frequency ^ -rare

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.labels in LABELS, f"labels must be one of {', '.join(LABELS)}, is '{self.labels}'")
        _require(0 <= self.rare <= 1, f"rare must lie from 0 to 1, is {self.rare:g}")


@dataclass(frozen=True)
class VaeSpec(Optimisation):
    model: dict[str, Any] = field(default_factory=dict)  # options of the network, of nets/pictures/vae.py
    pretrained: str = ""  # folder of an AutoencoderTiny or AutoencoderKL of diffusers, used unchanged
    crop: int = 64  # side of the crops in pixels
    noise: float = 0.3  # maximum noise added to the latents, so that the decoder tolerates renderer errors
    looks: float = 0.5  # weight in the loss of the difference in the backbone's first layers

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.crop > 0 and self.crop % 8 == 0, f"crop must be a multiple of 8, is {self.crop}")
        _require(min(self.noise, self.looks) >= 0, "noise and looks must not be negative")


@dataclass(frozen=True)
class RendererSpec(Optimisation):
    model: dict[str, Any] = field(default_factory=dict)  # options of the network, of nets/pictures/renderer.py
    dropped: float = 0.1  # share of samples without features, for guidance
    nested: float = 0.5  # share of samples that keep only the first n channels of their features, for a random n
    predicted: float = 0.8  # share of samples with the forecaster's features instead of the true ones, after the rise
    rise: float = 0.5  # share of the steps over which it rises
    sampling: int = 4  # steps from noise to picture in the exported graph
    guidance: float = 1.0  # of the exported graph; values other than 1 double its work

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dropped", "nested", "predicted", "rise"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must lie from 0 to 1, is {getattr(self, name):g}")
        _require(self.dropped + self.nested <= 1, "dropped and nested must not be more than 1 together")
        _require(self.rise > 0, "rise must be positive")
        _require(1 <= self.sampling <= 8, f"sampling must lie from 1 to 8, is {self.sampling}")
        _require(self.guidance > 0, f"guidance must be positive, is {self.guidance:g}")


@dataclass(frozen=True)
class FinisherSpec(Optimisation):
    model: dict[str, Any] = field(default_factory=dict)  # options of the network, of nets/pictures/finisher.py
    crop: int = 112  # side of the crops in pixels
    looks: float = 1.0  # weight in the loss of the difference in the backbone's first layers
    sharp: float = 3.0  # weight in the loss of the difference in contrast

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.crop > 0 and self.crop % 8 == 0, f"crop must be a multiple of 8, is {self.crop}")
        _require(min(self.looks, self.sharp) >= 0, "looks and sharp must not be negative")


@dataclass(frozen=True)
class RunFile:
    name: str
    backbone: BackboneSpec
    time: TimeSpec
    data: DataSpec
    pca: PcaSpec = PcaSpec()
    forecaster: ForecasterSpec = ForecasterSpec()
    head: HeadSpec = HeadSpec()
    vae: VaeSpec = VaeSpec()
    renderer: RendererSpec = RendererSpec()
    finisher: FinisherSpec = FinisherSpec()
    seed: int = 0
    cache: str = ""  # folder for encoded footage; empty: one in the run's folder
    base: str = ""  # a run whose features and forecaster this one takes

    def __post_init__(self) -> None:
        _require(bool(re.fullmatch(r"[A-Za-z0-9._-]+", self.name)), f"name has odd characters: '{self.name}'")
        _require(self.seed >= 0, f"seed must not be negative, is {self.seed}")


def read_run_file(path: Path) -> RunFile:
    """Read the run in a YAML file; its paths become absolute."""
    fields = _fields(path)
    if base := fields.get("base"):
        folder = path.parent / str(base)
        for name in INHERITED:
            if name in fields:
                raise TrainingError(f"{path}: {name}: comes from the base, {base}: remove it here, or remove base")
        fields = {**_inherited(folder, path), **fields}
    try:
        spec = build(RunFile, fields, "the run", str(path))
    except BundleError as error:
        raise TrainingError(str(error)) from None
    return _absolute(spec, path.parent)


def run_text(spec: RunFile) -> str:
    """The run as YAML with every field and without base: the fields of the base are written out."""
    fields = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(spec, base=""))))
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)
    return text


def differences(one: object, other: object, at: str = "") -> list[str]:
    """Names of the fields in which two runs differ, such as `backbone.height`."""
    if dataclasses.is_dataclass(one) and type(one) is type(other):
        return [
            name
            for f in dataclasses.fields(one)
            for name in differences(getattr(one, f.name), getattr(other, f.name), f"{at}.{f.name}".lstrip("."))
        ]
    return [] if one == other else [at]


def _fields(path: Path) -> dict[str, Any]:
    try:
        fields = load_plain_yaml(read_text(path, TEXT_BYTES), str(path))
    except FileNotFoundError:
        raise TrainingError(f"{path}: there is no such file: give the YAML file of a run") from None
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: cannot be read: {error}") from None
    except BundleError as error:
        raise TrainingError(str(error)) from None
    if not isinstance(fields, dict):
        raise TrainingError(f"{path}: expected a mapping of fields: see docs/train.md")
    return fields


def _inherited(folder: Path, where: Path) -> Mapping[str, Any]:
    file = folder / "run.yaml"
    if not file.is_file():
        raise TrainingError(
            f"{where}: base: {folder} is not a run, it has no run.yaml: give the folder of a trained run"
        )
    taken = json.loads(json.dumps(dataclasses.asdict(read_run_file(file))))
    return {name: taken[name] for name in INHERITED}


def _absolute(spec: RunFile, folder: Path) -> RunFile:
    def full(path: str) -> str:
        return str((folder / path).resolve()) if path else ""

    def entries(listed: tuple[DataEntry, ...]) -> tuple[DataEntry, ...]:
        return tuple(dataclasses.replace(entry, path=full(entry.path)) for entry in listed)

    return dataclasses.replace(
        spec,
        backbone=dataclasses.replace(spec.backbone, weights=full(spec.backbone.weights)),
        vae=dataclasses.replace(spec.vae, pretrained=full(spec.vae.pretrained)),
        data=DataSpec(entries(spec.data.train), entries(spec.data.val)),
        cache=full(spec.cache),
        base=full(spec.base),
    )
