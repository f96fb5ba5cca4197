"""The classes in which masks are compared, and the map from mask values to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import LabelSpec
from re2pix_node.errors import Re2pixError

if TYPE_CHECKING:
    from re2pix_node.footage.clips import Clip
    from re2pix_node.footage.label_space import SharedClasses

Table = NDArray[np.uint8]  # [256]: mask value -> class number; `Classes.count` means none of them


@dataclass(frozen=True)
class Classes:
    names: tuple[str, ...]
    moving: NDArray[np.bool_]
    colours: NDArray[np.uint8]  # [count + 1, 3]; the last is for pixels that do not count
    of_bundle: Table

    @property
    def count(self) -> int:
        return len(self.names)


def bundle_classes(labels: LabelSpec) -> Classes:
    """One class for each class of the bundle."""
    return _classes(labels, [c.name for c in labels.classes], [(c.id,) for c in labels.classes])


def classes_for(labels: LabelSpec, clips: Sequence["Clip"]) -> tuple[Classes, list[Table]]:
    """The classes that the bundle shares with the labels of all clips, and each clip's map to them."""
    from re2pix_node.footage.label_space import LabelSpace, shared_classes

    space = LabelSpace(tuple(c.id for c in labels.classes), tuple(c.name for c in labels.classes))
    shared: dict[str, SharedClasses] = {
        clip.name: shared_classes(clip.space, space, clip.groups) for clip in clips if len(clip.labelled)
    }
    if not shared:
        classes = bundle_classes(labels)
        return classes, [classes.of_bundle] * len(clips)
    first, *others = shared
    for other in others:
        if _bundle_side(shared[other]) != _bundle_side(shared[first]):
            raise Re2pixError(
                f"the labels of {other} and {first} share different classes with the bundle: score them one by one, "
                "or give both the same groups in dataset.yaml"
            )
    groups = shared[first].groups
    classes = _classes(labels, [group.name for group in groups], [group.bundle for group in groups])
    return classes, [_of_dataset(shared.get(clip.name, shared[first])) for clip in clips]


def _classes(labels: LabelSpec, names: Sequence[str], members: Sequence[tuple[int, ...]]) -> Classes:
    by_id = {c.id: c for c in labels.classes}
    return Classes(
        tuple(names),
        np.array([any(by_id[i].moving for i in ids) for ids in members]),
        np.array([*(by_id[ids[0]].color for ids in members), (0, 0, 0)], np.uint8),
        _table(members),
    )


def _bundle_side(shared: "SharedClasses") -> list[tuple[str, tuple[int, ...]]]:
    return [(group.name, group.bundle) for group in shared.groups]


def _of_dataset(shared: "SharedClasses") -> Table:
    return _table([group.dataset for group in shared.groups])


def _table(members: Sequence[tuple[int, ...]]) -> Table:
    table = np.full(256, len(members), np.uint8)
    for number, ids in enumerate(members):
        table[list(ids)] = number
    return table
