"""The classes of labels, and how the classes of a dataset and of a model are matched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import UNLABELLED
from re2pix_node.errors import DataError

Mask = NDArray[np.uint8]

# A predicted class that is no shared class: always wrong, and never ignored.
NO_GROUP = UNLABELLED - 1


@dataclass(frozen=True)
class LabelSpace:
    """The classes of label pictures: names by id. 255 is no class: the pixel does not count."""

    ids: tuple[int, ...]
    names: tuple[str, ...]


_CITYSCAPES_NAMES = (
    "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, "
    "person, rider, car, truck, bus, train, motorcycle, bicycle"
)
CITYSCAPES = LabelSpace(tuple(range(19)), tuple(_CITYSCAPES_NAMES.split(", ")))
# The labelIds of gtFine that are evaluated, in the order of their train ids. The others, up to 33, do not count.
_CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


class LabelMap:
    """Maps the pixel values of a dataset's label pictures to the ids of a space; other values are errors."""

    def __init__(self, space: LabelSpace, values: Mapping[int, int]) -> None:
        self.space = space
        self.values = dict(values)  # class id by pixel value; a pixel of 255 is never a class
        self._ids = np.full(256, -1, np.int16)
        self._ids[UNLABELLED] = UNLABELLED
        for value, label in values.items():
            self._ids[value] = label

    def __call__(self, labels: Mask, where: str) -> Mask:
        mapped = self._ids[labels]
        unknown = mapped < 0
        if unknown.any():
            row, column = np.unravel_index(unknown.argmax(), unknown.shape)
            known = ", ".join(str(value) for value in np.flatnonzero(self._ids >= 0))
            raise DataError(
                f"{where}: the label value {labels[row, column]} at x {column}, y {row} is unknown; known are {known}: "
                "name it in the label_map of dataset.yaml (255 = ignore)"
            )
        return mapped.astype(np.uint8)


def plain_map(space: LabelSpace) -> LabelMap:
    """The map for label pictures whose values are the ids of the space."""
    return LabelMap(space, {label: label for label in space.ids})


def cityscapes_label_ids() -> LabelMap:
    """The map for *_gtFine_labelIds.png."""
    ignored = dict.fromkeys(range(34), UNLABELLED)
    return LabelMap(CITYSCAPES, {**ignored, **{value: label for label, value in enumerate(_CITYSCAPES_LABEL_IDS)}})


@dataclass(frozen=True)
class Group:
    """Classes of a dataset and classes of a bundle that count as one."""

    name: str
    dataset: tuple[int, ...]
    bundle: tuple[int, ...]


@dataclass(frozen=True)
class SharedClasses:
    """The shared classes for comparing a dataset's truth with a bundle's masks: number i is group i."""

    groups: tuple[Group, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(group.name for group in self.groups)

    def of_dataset(self, labels: Mask) -> Mask:
        """Truth as group numbers. A class in no group becomes 255: it does not count."""
        return _table([group.dataset for group in self.groups], UNLABELLED)[labels]

    def of_bundle(self, labels: Mask) -> Mask:
        """A bundle's mask as group numbers. A class in no group becomes NO_GROUP: wrong wherever the truth counts."""
        return _table([group.bundle for group in self.groups], NO_GROUP)[labels]


def shared_classes(dataset: LabelSpace, bundle: LabelSpace, groups: Sequence[Group] = ()) -> SharedClasses:
    """The groups of a dataset.yaml, checked against the bundle; without groups, the classes with equal names."""
    for group in groups:
        for side, ids, known in (("dataset", group.dataset, dataset.ids), ("bundle", group.bundle, bundle.ids)):
            unknown = [label for label in ids if label not in known]
            if unknown:
                raise DataError(
                    f"the group '{group.name}' names class {unknown[0]}, which the {side} does not have; "
                    f"it has {', '.join(map(str, known))}: correct groups in dataset.yaml"
                )
    if groups:
        return SharedClasses(tuple(groups))
    by_name = {_plain_name(name): label for label, name in zip(bundle.ids, bundle.names, strict=True)}
    same = tuple(
        Group(name, (label,), (by_name[_plain_name(name)],))
        for label, name in zip(dataset.ids, dataset.names, strict=True)
        if _plain_name(name) in by_name
    )
    if not same:
        raise DataError(
            f"the dataset's classes ({', '.join(dataset.names)}) and the bundle's ({', '.join(bundle.names)}) have no "
            "name in common: put groups into dataset.yaml"
        )
    return SharedClasses(same)


def _plain_name(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ")


def _table(members: Sequence[tuple[int, ...]], otherwise: int) -> Mask:
    table = np.full(256, otherwise, np.uint8)
    for number, ids in enumerate(members):
        table[list(ids)] = number
    return table
