"""dataset.yaml, its mistakes, and the classes that a dataset and a bundle share."""

from pathlib import Path

import numpy as np
import pytest

from re2pix_node.errors import DataError
from re2pix_node.footage.dataset_yaml import read_settings
from re2pix_node.footage.label_space import CITYSCAPES, NO_GROUP, Group, LabelSpace, shared_classes

GROUPS = "groups: {car: {dataset: [8], bundle: [13, 14, 15]}, road: {dataset: [1, 2], bundle: [0]}}"


def settings(folder: Path, text: str):
    (folder / "dataset.yaml").write_text(text)
    (folder / "images").mkdir(exist_ok=True)
    return read_settings(folder)


def test_none(tmp_path: Path) -> None:
    found = read_settings(tmp_path)
    assert (found.file, found.rate, found.images, found.groups) == (None, None, None, ())
    assert found.label_map.space == CITYSCAPES


def test_all_fields(tmp_path: Path) -> None:
    text = f"rate: 12.5\nimages: images\nlabels: images\ntopic: /a\nlabel_map: {{0: 255, 7: 8, 8: 1}}\n{GROUPS}"
    found = settings(tmp_path, text)
    assert (found.rate, found.images, found.labels) == (12.5, tmp_path / "images", tmp_path / "images")
    assert found.groups == (Group("car", (8,), (13, 14, 15)), Group("road", (1, 2), (0,)))
    # The classes are those that the groups name.
    assert found.label_map.space == LabelSpace((1, 2, 8), ("road 1", "road 2", "car"))
    mapped = found.label_map(np.array([[0, 7, 8, 255]], np.uint8), "here")
    assert mapped.tolist() == [[255, 8, 1, 255]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rat: 17", "unknown field 'rat'; known are rate, images"),
        ("- 17", "the file: expected a mapping of fields"),
        ("", "the file: expected a mapping of fields, found None"),
        ("rate: fast", "rate: expected frames a second, above 0 and up to 1000, found 'fast'"),
        ("rate: 0", "rate: expected frames a second"),
        ("rate: .nan", "rate: expected frames a second"),
        ("rate: true", "rate: expected frames a second"),
        ("rate: 17\nrate: 18", "the field 'rate' occurs twice"),
        ("images: images", "images: needs rate"),
        ("rate: 17\nimages: nowhere", "images: there is no folder .*nowhere"),
        ("rate: 17\nimages: 3", "images: expected the name of a folder, found 3"),
        ("labels: images", "labels: needs images"),
        ("topic: 7", "topic: expected a topic's name, found 7"),
        ("topic:", "topic: expected a topic's name, found None"),
        ("classes: [road]", "classes: expected a mapping"),
        ("classes: {}", "classes: is empty"),
        ("classes: {255: road}", "classes: expected a whole number from 0 to 254, found 255"),
        ("classes: {one: road}", "classes: expected a whole number from 0 to 254, found 'one'"),
        ("classes: {1: road, 2: road}", "classes: a name occurs twice"),
        ("classes: {1: 2}", "classes.1: expected a name, found 2"),
        ("label_map: {7: 19}", "label_map.7: there is no class 19"),
        ("label_map: {256: 1}", "label_map: expected a whole number from 0 to 255, found 256"),
        ("label_map: {7: road}", "label_map.7: expected a whole number from 0 to 255, found 'road'"),
        ("label_map: {7: 1, 7: 2}", "the field '7' occurs twice"),
        ("groups: {}", "groups: is empty"),
        ("groups: {car: [8]}", "groups.car: expected a mapping"),
        ("groups: {car: {dataset: [8]}}", "groups.car: bundle must be a list of class ids, is None"),
        ("groups: {car: {dataset: 8, bundle: [1]}}", "groups.car: dataset must be a list of class ids, is 8"),
        ("groups: {car: {dataset: [8], bundle: [1], x: 1}}", "groups.car: unknown field 'x'"),
        (
            "groups: {a: {dataset: [8], bundle: [1]}, b: {dataset: [8], bundle: [2]}}",
            "groups.b.dataset: class 8 occurs",
        ),
        ("groups: {a: {dataset: [8], bundle: [1, 1]}}", "groups.a.bundle: class 1 occurs twice"),
        ("groups: {a: {dataset: [8], bundle: [1.5]}}", "groups.a.bundle: expected a whole number"),
        ("groups: {yes: {dataset: [8], bundle: [1]}}", "groups: expected names, found True: put it in quotes"),
        ("classes: {1: road}\ngroups: {a: {dataset: [8], bundle: [1]}}", "groups.a.dataset: class 8 is not in classes"),
        ("rate: !!python/object/apply:os.system ['true']", "the YAML tag .* is not allowed"),
        ("rate: [", "not valid YAML"),
        ("[" * 1000 + "]" * 1000, "is nested too deeply"),
    ],
)
def test_mistakes_are_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"dataset.yaml.*{message}") as raised:
        settings(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_unreadable_text(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_bytes(b"rate: \xff")
    with pytest.raises(DataError, match=r"dataset.yaml: cannot be read"):
        read_settings(tmp_path)


class TestSharedClasses:
    dataset = LabelSpace((1, 2, 8, 9), ("asphalt", "marking", "car", "swan"))
    bundle = LabelSpace((0, 10, 13, 14, 15), ("road", "sky", "car", "truck", "bus"))

    def test_groups(self) -> None:
        groups = (Group("vehicle", (8,), (13, 14, 15)), Group("road", (1, 2), (0,)))
        shared = shared_classes(self.dataset, self.bundle, groups)
        assert shared.names == ("vehicle", "road")
        # Truth without a group does not count; a forecast without one is wrong where truth counts.
        assert shared.of_dataset(np.array([8, 1, 2, 9, 255], np.uint8)).tolist() == [0, 1, 1, 255, 255]
        assert shared.of_bundle(np.array([13, 14, 15, 0, 10, 255], np.uint8)).tolist() == [
            0,
            0,
            0,
            1,
            NO_GROUP,
            NO_GROUP,
        ]

    def test_by_name(self) -> None:
        shared = shared_classes(CITYSCAPES, LabelSpace((3, 4, 5), ("Traffic_Light", "road", "shed")))
        assert shared.names == ("road", "traffic light")
        assert shared.of_dataset(np.array([0, 6, 13], np.uint8)).tolist() == [0, 1, 255]
        assert shared.of_bundle(np.array([4, 3, 5], np.uint8)).tolist() == [0, 1, NO_GROUP]

    def test_mistakes(self) -> None:
        with pytest.raises(DataError, match="the group 'a' names class 3, which the dataset does not have"):
            shared_classes(self.dataset, self.bundle, (Group("a", (3,), (0,)),))
        with pytest.raises(DataError, match="the group 'a' names class 16, which the bundle does not have"):
            shared_classes(self.dataset, self.bundle, (Group("a", (8,), (16,)),))
        with pytest.raises(DataError, match="no name in common: put groups into"):
            shared_classes(self.dataset, LabelSpace((0,), ("sky",)))
