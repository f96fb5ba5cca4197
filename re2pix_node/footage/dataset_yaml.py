"""dataset.yaml: facts that the footage itself does not contain. Read strictly and never executed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.common.files import read_text
from re2pix_node.common.limits import TEXT_BYTES
from re2pix_node.common.plain_yaml import load_plain_yaml
from re2pix_node.errors import BundleError, DataError
from re2pix_node.footage.label_space import CITYSCAPES, Group, LabelMap, LabelSpace, plain_map

SETTINGS = "dataset.yaml"
_FIELDS = ("rate", "images", "labels", "topic", "classes", "label_map", "groups")


@dataclass(frozen=True)
class DatasetSettings:
    """The fields of a dataset.yaml, or the defaults without one."""

    file: Path | None = None
    rate: float | None = None  # frames a second
    images: Path | None = None
    labels: Path | None = None
    topic: str | None = None
    groups: tuple[Group, ...] = ()
    label_map: LabelMap = field(default_factory=lambda: plain_map(CITYSCAPES))
    names: frozenset[str] = frozenset()  # names of the fields in the file

    def refuse(self, *names: str, why: str) -> None:
        """Raise an error for a field that has no effect on this footage, so that it does not seem to have one."""
        for name in names:
            if name in self.names:
                raise DataError(f"{self.file}: {name}: {why}: remove it")


def read_settings(folder: Path) -> DatasetSettings:
    """The dataset.yaml of a folder, or the defaults if it has none."""
    file = folder / SETTINGS
    if not file.exists():
        return DatasetSettings()
    try:
        data = load_plain_yaml(read_text(file, TEXT_BYTES), str(file))
        return _settings(file, data)
    except BundleError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}): check it") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: cannot be read ({error}): check it") from error
    except RecursionError:
        raise DataError(f"{file}: is nested too deeply: write plain values") from None
    except _WrongError as error:
        raise DataError(f"{file}: {error}") from None


class _WrongError(Exception):
    """A fault in the file, without the file's name."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise _WrongError(message)


def _settings(file: Path, data: object) -> DatasetSettings:
    fields = _mapping(data, "the file")
    for name in fields:
        _require(name in _FIELDS, f"unknown field '{name}'; known are {', '.join(_FIELDS)}")
    images, labels = _folder(file, fields, "images"), _folder(file, fields, "labels")
    _require(images is None or "rate" in fields, "images: needs rate, the frames a second")
    _require(labels is None or images is not None, "labels: needs images, the folder of the frames they belong to")
    groups = _groups(fields["groups"]) if "groups" in fields else ()
    space = _space(fields, groups)
    label_map = _label_map(fields["label_map"], space) if "label_map" in fields else plain_map(space)
    topic = fields.get("topic")
    _require("topic" not in fields or isinstance(topic, str), f"topic: expected a topic's name, found {topic!r}")
    rate = _rate(fields["rate"]) if "rate" in fields else None
    return DatasetSettings(file, rate, images, labels, topic, groups, label_map, frozenset(fields))


def _mapping(value: object, at: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _WrongError(f"{at}: expected a mapping of fields, found {value!r:.40}")
    return value


def _rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1000:
        raise _WrongError(f"rate: expected frames a second, above 0 and up to 1000, found {value!r}")
    return float(value)


def _folder(file: Path, fields: Mapping[str, object], name: str) -> Path | None:
    if name not in fields:
        return None
    value = fields[name]
    _require(isinstance(value, str) and value != "", f"{name}: expected the name of a folder, found {value!r}")
    folder = file.parent / str(value)
    _require(folder.is_dir(), f"{name}: there is no folder {folder}: correct the name")
    return folder


def _label(value: object, at: str, most: int = UNLABELLED - 1) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise _WrongError(f"{at}: expected a whole number from 0 to {most}, found {value!r}")
    return value


def _space(fields: Mapping[str, object], groups: tuple[Group, ...]) -> LabelSpace:
    """The classes of the file, else those in its groups, else those of Cityscapes."""
    if "classes" in fields:
        classes = _mapping(fields["classes"], "classes")
        _require(bool(classes), "classes: is empty")
        for label, name in classes.items():
            _label(label, "classes")
            _require(isinstance(name, str), f"classes.{label}: expected a name, found {name!r}")
        ids = tuple(sorted(classes))
        _require(len(set(classes.values())) == len(ids), "classes: a name occurs twice: merge classes by groups")
        space = LabelSpace(ids, tuple(classes[label] for label in ids))
    elif groups:
        names = {
            label: group.name if len(group.dataset) == 1 else f"{group.name} {label}"
            for group in groups
            for label in group.dataset
        }
        space = LabelSpace(tuple(sorted(names)), tuple(names[label] for label in sorted(names)))
    else:
        space = CITYSCAPES
    for group in groups:
        for label in group.dataset:
            _require(label in space.ids, f"groups.{group.name}.dataset: class {label} is not in classes: add it there")
    return space


def _label_map(value: object, space: LabelSpace) -> LabelMap:
    values = _mapping(value, "label_map")
    for pixel, label in values.items():
        _label(pixel, "label_map", UNLABELLED)
        _label(label, f"label_map.{pixel}", UNLABELLED)
        known = ", ".join(map(str, space.ids))
        _require(
            label in (*space.ids, UNLABELLED),
            f"label_map.{pixel}: there is no class {label}; there are {known}, and 255 = ignore",
        )
    return LabelMap(space, values)


def _groups(value: object) -> tuple[Group, ...]:
    entries = _mapping(value, "groups")
    _require(bool(entries), "groups: is empty")
    groups = tuple(_group(name, entry) for name, entry in entries.items())
    for side in ("dataset", "bundle"):
        owner: dict[int, str] = {}
        for group in groups:
            for label in getattr(group, side):
                _require(label not in owner, f"groups.{group.name}.{side}: class {label} occurs twice: keep one")
                owner[label] = group.name
    return groups


def _group(name: object, value: object) -> Group:
    _require(isinstance(name, str), f"groups: expected names, found {name!r}: put it in quotes")
    sides = _mapping(value, f"groups.{name}")
    for side in sides:
        _require(side in ("dataset", "bundle"), f"groups.{name}: unknown field '{side}'; known are dataset, bundle")
    for side in ("dataset", "bundle"):
        listed = isinstance(sides.get(side), list) and sides[side]
        _require(bool(listed), f"groups.{name}: {side} must be a list of class ids, is {sides.get(side)!r}")
    dataset, bundle = (
        tuple(_label(label, f"groups.{name}.{side}") for label in sides[side]) for side in ("dataset", "bundle")
    )
    return Group(str(name), dataset, bundle)
