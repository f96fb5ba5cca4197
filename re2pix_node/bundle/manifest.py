"""bundle.yaml, the description of a model: read strictly and never executed."""

import dataclasses
import math
import re
import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from re2pix_node.common.plain_yaml import load_plain_yaml
from re2pix_node.errors import BundleError
from re2pix_node.imaging.geometry import FITS

SCHEMA = 1
MANIFEST = "bundle.yaml"
UNLABELLED = 255
CONTEXT_MAX = 64
NANOSECONDS = 1_000_000_000
# Names that an optional output must not have, because they mean other outputs.
NOT_OPTIONAL = ("features", "labels", "confidence", "segmentation", "image", "preview", "camera_info")
OUTPUT_DTYPES = ("float32", "float16", "uint8")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class Provenance:
    """Where one set of weights comes from."""

    what: str
    source: str
    licence: str


@dataclass(frozen=True)
class ImageSpec:
    """The size of the encoder's picture in pixels, and how a camera frame is fitted to it."""

    height: int
    width: int
    fit: str = "crop"

    def __post_init__(self) -> None:
        _require(self.height > 0 and self.width > 0, f"the size must be positive, is {self.height} x {self.width}")
        _require(self.fit in FITS, f"fit must be one of {', '.join(FITS)}, is '{self.fit}'")


@dataclass(frozen=True)
class TimeSpec:
    """The spacing of context frames in seconds, and the multiples of it that are forecast."""

    context: int
    stride: float
    stride_min: float
    stride_max: float
    jitter: float
    horizons: tuple[int, ...]

    def __post_init__(self) -> None:
        _require(1 <= self.context <= CONTEXT_MAX, f"context must lie from 1 to {CONTEXT_MAX}, is {self.context}")
        _require(
            0 < self.stride_min <= self.stride <= self.stride_max,
            "0 < stride_min <= stride <= stride_max does not hold: "
            f"{self.stride_min:g}, {self.stride:g}, {self.stride_max:g}",
        )
        _require(
            0 <= 2 * self.jitter < self.stride_min,
            f"jitter must lie from 0 to below half of stride_min ({self.stride_min / 2:g}), is {self.jitter:g}",
        )
        _require(
            bool(self.horizons) and self.horizons[0] >= 1 and list(self.horizons) == sorted(set(self.horizons)),
            f"horizons must be rising whole multiples of the spacing, from 1 on, are {list(self.horizons)}",
        )


@dataclass(frozen=True)
class FeatureSpec:
    """The grid of features: cells, length of the vector in a cell, element type in the graphs.

    The encoder may add `carried` more channels after those, for the forecaster only: a small picture that shows motion.
    They are never forecast, compared or published.
    """

    height: int
    width: int
    channels: int
    dtype: str
    carried: int = 0

    def __post_init__(self) -> None:
        _require(self.carried >= 0, f"carried must not be negative, is {self.carried}")
        _require(min(self.height, self.width, self.channels) > 0, "height, width and channels must be positive")
        _require(self.dtype in ("float32", "float16"), f"dtype must be float32 or float16, is '{self.dtype}'")


@dataclass(frozen=True)
class LabelClass:
    """One class: its value in the masks, its name, its colour in pictures, and whether it moves by itself."""

    id: int
    name: str
    color: tuple[int, int, int]
    moving: bool = False

    def __post_init__(self) -> None:
        _require(0 <= self.id < UNLABELLED, f"id must lie from 0 to {UNLABELLED - 1}, is {self.id}")
        _require(all(0 <= c <= 255 for c in self.color), f"color must lie from 0 to 255, is {list(self.color)}")


@dataclass(frozen=True)
class LabelSpec:
    """The masks: their size in pixels and the classes that occur in them."""

    height: int
    width: int
    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        _require(self.height > 0 and self.width > 0, f"the size must be positive, is {self.height} x {self.width}")
        ids = [c.id for c in self.classes]
        _require(bool(ids), "classes is empty")
        _require(len(set(ids)) == len(ids), f"a class id occurs twice in {ids}")


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle and the hash of its bytes."""

    file: str
    sha256: str

    def __post_init__(self) -> None:
        plain = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", self.file)
        _require(plain is not None, f"file must be a plain name inside the bundle, is '{self.file}'")
        _require(re.fullmatch(r"[0-9a-f]{64}", self.sha256) is not None, "sha256 must be 64 lower-case hex digits")


@dataclass(frozen=True)
class Graphs:
    encode: FileEntry
    forecast: FileEntry


@dataclass(frozen=True)
class RenderSpec(FileEntry):
    """The graph that draws pictures of forecasts."""

    noise: int  # number of random numbers in its input `noise`
    psnr: float  # minimum PSNR, in dB, of an engine's picture against the reference

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.noise >= 1, f"noise must be at least 1, is {self.noise}")
        _require(self.psnr > 0, f"psnr must be positive, is {self.psnr:g}")


@dataclass(frozen=True)
class ProofSpec:
    """The reference outputs, and how much an engine's outputs may differ from them."""

    file: str
    sha256: str
    relative_l2: float  # of features, at most
    cosine: float  # of features, at least
    agreement: float  # share of mask pixels with the same label, at least
    confidence: float  # mean absolute difference of confidence (0 to 1), at most
    every: int = 1  # the proof has every n-th value of features and optional outputs

    def __post_init__(self) -> None:
        FileEntry(self.file, self.sha256)
        for name in ("relative_l2", "cosine", "agreement", "confidence"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} must lie from 0 to 1, is {value:g}")
        _require(self.every >= 1, f"every must be at least 1, is {self.every}")


@dataclass(frozen=True)
class OptionalOutput:
    """An output of the forecast graph besides features, labels and confidence."""

    name: str
    dtype: str
    shape: tuple[int, ...]  # of one horizon
    relative_l2: float  # maximum relative L2 distance of an engine's values from the proof

    def __post_init__(self) -> None:
        _require(re.fullmatch(r"[a-z][a-z0-9_]*", self.name) is not None, f"name has odd characters: '{self.name}'")
        _require(
            self.name not in NOT_OPTIONAL,
            f"'{self.name}' cannot be the name of an optional output: choose another name",
        )
        _require(self.dtype in OUTPUT_DTYPES, f"dtype must be one of {', '.join(OUTPUT_DTYPES)}, is '{self.dtype}'")
        _require(bool(self.shape) and min(self.shape) > 0, f"shape must be positive, is {list(self.shape)}")
        _require(0 <= self.relative_l2 <= 1, f"relative_l2 must lie from 0 to 1, is {self.relative_l2:g}")


@dataclass(frozen=True)
class Score:
    """One measured figure, with the command that measured it."""

    metric: str
    value: float
    data: str
    command: str


@dataclass(frozen=True)
class Manifest:
    schema: int
    name: str
    version: str
    description: str
    licence: str
    provenance: tuple[Provenance, ...]
    image: ImageSpec
    time: TimeSpec
    features: FeatureSpec
    samples: int
    labels: LabelSpec
    graphs: Graphs
    proof: ProofSpec
    noise: int = 0  # number of random numbers for each sample, in the forecast graph's input `noise`
    render: RenderSpec | None = None
    outputs: tuple[OptionalOutput, ...] = ()
    scores: tuple[Score, ...] = ()

    def __post_init__(self) -> None:
        _require(bool(re.fullmatch(r"[A-Za-z0-9._-]+", self.name)), f"name has odd characters: '{self.name}'")
        _require(self.samples >= 1, f"samples must be at least 1, is {self.samples}")
        _require(self.noise >= 0, f"noise must not be negative, is {self.noise}")
        names = [output.name for output in self.outputs]
        _require(len(set(names)) == len(names), f"an output occurs twice in {names}")


def parse_manifest(text: str, where: str) -> Manifest:
    """The manifest in `text`; `where` names the file in errors."""
    data = load_plain_yaml(text, where)
    if not isinstance(data, dict):
        raise BundleError(f"{where}: expected a mapping of fields, found {_kind(data)}")
    # Check the version first: another schema has other fields, and errors about those would mislead.
    if data.get("schema") != SCHEMA:
        raise BundleError(
            f"{where}: schema version {data.get('schema')!r:.40} is not supported, this re2pix_node reads {SCHEMA}: "
            "export the bundle again, or install the release it was made for"
        )
    return build(Manifest, data, "the manifest", where)


def manifest_text(manifest: Manifest) -> str:
    """The manifest as YAML that `parse_manifest` reads back."""
    fields = _plain(dataclasses.asdict(manifest))
    for name in ("render", "outputs"):  # older versions read bundles without them
        if not fields[name]:
            del fields[name]
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)


T = TypeVar("T")
_PLAIN_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "a mapping"}


def _kind(value: object) -> str:
    kinds = {**_PLAIN_KINDS, list: "a list", types.NoneType: "nothing"}
    return f"{kinds.get(type(value), type(value).__name__)} ({value!r:.40})"


def build(kind: type[T], data: object, at: str, where: str, path: str = "") -> T:
    """Build the dataclass `kind` from `data`: each field must be known, present and of its type. Errors name `at`."""
    if not isinstance(data, dict):
        raise BundleError(f"{where}: {at}: expected a mapping of fields, found {_kind(data)}")
    fields: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [str(name) for name in data if name not in fields]
    if unknown:
        raise BundleError(f"{where}: {at}: unknown field '{unknown[0]}'; known are {', '.join(fields)}")
    required = [name for name, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in data]
    if missing:
        raise BundleError(f"{where}: {at}: the field '{missing[0]}' is missing")
    hints = typing.get_type_hints(kind)
    values = {name: _value(hints[name], data[name], f"{path}.{name}".lstrip("."), where) for name in data}
    try:
        return kind(**values)
    except ValueError as error:
        raise BundleError(f"{where}: {at}: {error}") from None


def _value(kind: Any, data: object, path: str, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return build(typing.cast(type, kind), data, path, where, path)
    if typing.get_origin(kind) is types.UnionType:  # X | None
        return None if data is None else _value(typing.get_args(kind)[0], data, path, where)
    if typing.get_origin(kind) is tuple:
        return _values(typing.get_args(kind), data, path, where)
    kind = typing.get_origin(kind) or kind
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool) and math.isfinite(data):
        return float(data)
    if kind is float or type(data) is not kind:
        raise BundleError(f"{where}: {path}: expected {_PLAIN_KINDS[kind]}, found {_kind(data)}")
    return data


def _values(kinds: tuple[Any, ...], data: object, path: str, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise BundleError(f"{where}: {path}: expected a list, found {_kind(data)}")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(data)
    if len(kinds) != len(data):
        raise BundleError(f"{where}: {path}: expected {len(kinds)} entries, found {len(data)}")
    return tuple(
        _value(kind, item, f"{path}[{i}]", where) for i, (kind, item) in enumerate(zip(kinds, data, strict=True))
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
