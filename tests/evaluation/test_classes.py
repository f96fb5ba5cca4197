import numpy as np
import pytest

from re2pix_node.errors import Re2pixError
from re2pix_node.evaluation.classes import bundle_classes, classes_for
from re2pix_node.footage.clips import Clip
from re2pix_node.footage.label_space import CITYSCAPES, Group, LabelSpace, plain_map
from tests.support.tiny_bundle import CLASSES, tiny_manifest

LABELS = tiny_manifest().labels


def clip(name: str, labelled: bool = True, space: LabelSpace = CITYSCAPES, groups: tuple[Group, ...] = ()) -> Clip:
    return Clip(name, [0, 1], [0] if labelled else [], None, plain_map(space), groups)


def test_a_bundles_own_classes() -> None:
    classes = bundle_classes(LABELS)
    assert classes.names == tuple(c.name for c in CLASSES)
    assert classes.moving.tolist() == [False, False, False, False, True]
    assert classes.of_bundle[[0, 2, 13, 7, 255]].tolist() == [0, 1, 4, 5, 5]
    assert classes.colours[4].tolist() == [0, 0, 142]


def test_classes_of_the_same_name_are_compared() -> None:
    space = LabelSpace((1, 2, 3), ("car", "moose", "sky"))
    classes, (of_labels,) = classes_for(LABELS, [clip("a", space=space)])
    assert classes.names == ("car", "sky")
    assert of_labels[[1, 2, 3, 255]].tolist() == [0, 2, 1, 2]
    assert classes.of_bundle[[13, 10, 0]].tolist() == [0, 1, 2]  # road is no class of the comparison
    assert classes.moving.tolist() == [True, False]


def test_groups_merge_classes_on_both_sides() -> None:
    groups = (Group("things", (13, 14, 15), (13, 8)), Group("rest", (0,), (0, 2)))
    classes, (of_labels, _) = classes_for(LABELS, [clip("a", groups=groups), clip("bare", labelled=False)])
    assert classes.names == ("things", "rest")
    assert of_labels[[13, 14, 15, 0, 2]].tolist() == [0, 0, 0, 1, 2]
    assert classes.of_bundle[[13, 8, 0, 2, 10]].tolist() == [0, 0, 1, 1, 2]


def test_without_labels_the_bundles_classes_are_compared() -> None:
    classes, tables = classes_for(LABELS, [clip("a", labelled=False)])
    assert classes.names == bundle_classes(LABELS).names
    np.testing.assert_array_equal(tables[0], classes.of_bundle)


def test_clips_that_share_different_classes_do_not_go_together() -> None:
    other = LabelSpace((4, 5), ("car", "sky"))
    with pytest.raises(Re2pixError, match="the labels of b and a share different classes"):
        classes_for(LABELS, [clip("a"), clip("b", space=other)])
