"""A run is one YAML file, read strictly."""

from pathlib import Path

import pytest
import yaml

from re2pix_node.errors import TrainingError
from re2pix_node.training.run_file import INHERITED, differences, read_run_file, run_text
from re2pix_node.training.run_folder import RESULTS, STEPS, read_run_folder, start_run
from tests.support.made_runs import run_fields, write_run


def changed(**sections: dict) -> dict:
    fields = run_fields()
    return {name: {**fields[name], **change} for name, change in sections.items()}


def test_paths_are_relative_to_the_file_and_defaults_are_filled_in(tmp_path: Path) -> None:
    spec = read_run_file(write_run(tmp_path / "run.yaml"))
    assert spec.backbone.weights == str(tmp_path / "weights.pt")
    assert [entry.path for entry in spec.data.train] == [str(tmp_path / "drive")]
    assert spec.backbone.layers == ("stage1", "stage2")
    assert spec.cache == ""
    (tmp_path / "again.yaml").write_text(run_text(spec))
    assert read_run_file(tmp_path / "again.yaml") == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "the run: unknown field 'sed'"),
        (
            changed(backbone={"width": 100}),
            "backbone: height and width must be multiples of 32 .'mobilesam'., are 100 x",
        ),
        (changed(backbone={"cell": 24}), r"backbone: height and width must be multiples of 24 \(cell\), are 128 x 64"),
        (changed(backbone={"cell": 2}), "backbone: cell must be a multiple of 4 where features carry a picture, is 2"),
        (
            changed(backbone={"kind": "vit"}),
            "backbone: kind must be dinov2, mobilesam or the dotted name of a module, is 'vit'",
        ),
        (changed(backbone={"kind": "no.vit"}), "backbone: kind 'no.vit' cannot be imported: No module named 'no'"),
        (changed(backbone={"kind": "json.tool"}), "kind 'json.tool' must be a module with a BackboneKind named BACK"),
        (changed(head={"steps": 0}), "head: steps must be positive, is 0"),
        (changed(head={"steps": "many"}), r"head.steps: expected a whole number, found text \('many'\)"),
        (changed(head={"labels": "mine"}), "head: labels must be one of cityscapes19, data, is 'mine'"),
        (changed(forecaster={"precision": "fp16"}), "forecaster: precision must be fp32 or bf16, is 'fp16'"),
        (changed(forecaster={"model": 3}), r"forecaster.model: expected a mapping, found a whole number \(3\)"),
        ({"data": {"train": []}}, "data: train is empty"),
        ({"data": {"train": [{"path": "x", "weight": 0}]}}, r"data.train\[0\]: weight must be positive, is 0"),
        ({"name": "a b"}, "name has odd characters: 'a b'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        read_run_file(write_run(tmp_path / "run.yaml", **changes))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.yaml: there is no such file"):
        read_run_file(tmp_path / "none.yaml")


def test_differences_are_named_by_field(tmp_path: Path) -> None:
    one = read_run_file(write_run(tmp_path / "one.yaml"))
    other = read_run_file(write_run(tmp_path / "other.yaml", seed=1, **changed(head={"steps": 7})))
    assert differences(one, one) == []
    assert differences(one, other) == ["head.steps", "seed"]


def leave(folder: Path, step: str) -> Path:
    file = folder / RESULTS[step]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"result")
    return file


def test_the_same_run_goes_on_and_its_yaml_stays_with_it(tmp_path: Path) -> None:
    yaml_file = write_run(tmp_path / "run.yaml")
    run = start_run("pca", yaml_file, tmp_path / "out")
    result = leave(run.path, "pca")
    assert start_run("pca", yaml_file, tmp_path / "out").spec == run.spec
    assert result.is_file()
    assert read_run_folder(tmp_path / "out").spec == run.spec
    # What the folder keeps is a run file of its own.
    assert start_run("pca", tmp_path / "out/run.yaml", tmp_path / "out").spec == run.spec


def test_a_field_that_a_step_went_by_must_not_change(tmp_path: Path) -> None:
    start_run("pca", write_run(tmp_path / "run.yaml"), tmp_path / "out")
    result = leave(tmp_path / "out", "pca")
    other = write_run(tmp_path / "other.yaml", **changed(backbone={"cell": 16}))
    with pytest.raises(TrainingError, match=r"other\.yaml: backbone\.cell differs from .* which `train pca` has used"):
        start_run("head", other, tmp_path / "out")
    assert result.is_file()
    start_run("pca", other, tmp_path / "out", force=True)
    assert not result.exists()


def test_other_weights_of_the_backbone_are_refused(tmp_path: Path) -> None:
    weights, moved = tmp_path / "weights.pt", tmp_path / "moved.pt"
    weights.write_bytes(b"first")
    yaml_file = write_run(tmp_path / "run.yaml", **changed(backbone={"weights": str(weights)}))
    start_run("pca", yaml_file, tmp_path / "out")
    weights.write_bytes(b"second")
    start_run("pca", yaml_file, tmp_path / "out")  # no step has used the first
    result = leave(tmp_path / "out", "pca")
    weights.rename(moved)
    start_run("head", write_run(tmp_path / "m.yaml", **changed(backbone={"weights": str(moved)})), tmp_path / "out")
    moved.write_bytes(b"first")
    complaint = r"moved\.pt: is not the file that the steps in .*out have used \(sha256 [0-9a-f]{12}\.\.\., not"
    with pytest.raises(TrainingError, match=complaint):
        read_run_folder(tmp_path / "out")
    with pytest.raises(TrainingError, match=complaint):
        start_run("head", tmp_path / "m.yaml", tmp_path / "out")
    assert result.is_file()
    start_run("pca", tmp_path / "m.yaml", tmp_path / "out", force=True)
    assert not result.exists()


def test_weights_that_are_not_those_of_the_base_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"first")
    given = changed(backbone={"weights": str(weights)})
    base = start_run("pca", write_run(tmp_path / "run.yaml", **given), tmp_path / "base")
    leave(base.path, "pca")
    weights.write_bytes(b"second")
    own = {name: value for name, value in run_fields().items() if name not in INHERITED}
    new = tmp_path / "new.yaml"
    new.write_text(yaml.safe_dump({**own, "base": str(base.path)}))
    with pytest.raises(TrainingError, match=r"is not the file that the steps in .*base have used"):
        start_run("head", new, tmp_path / "out")


def test_other_fields_may_change_and_force_touches_one_step(tmp_path: Path) -> None:
    start_run("pca", write_run(tmp_path / "run.yaml"), tmp_path / "out")
    basis, head = leave(tmp_path / "out", "pca"), leave(tmp_path / "out", "head")
    other = write_run(tmp_path / "other.yaml", **changed(head={"steps": 9}))
    with pytest.raises(TrainingError, match=r"head\.steps"):
        start_run("head", other, tmp_path / "out")
    assert start_run("head", other, tmp_path / "out", force=True).spec.head.steps == 9
    assert basis.is_file()
    assert not head.exists()


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("pca", {"vae"}),
        ("head", {"pca", "forecaster", "vae", "renderer", "finisher"}),
        ("forecaster", {"pca", "head", "vae"}),
        ("vae", {"pca", "head", "forecaster"}),
        ("renderer", {"pca", "head", "forecaster", "vae"}),
        ("finisher", {"pca", "head", "forecaster", "vae", "renderer"}),
    ],
)
def test_force_takes_what_was_built_on_a_step(tmp_path: Path, step: str, kept: set[str]) -> None:
    yaml_file = write_run(tmp_path / "run.yaml")
    start_run("pca", yaml_file, tmp_path / "out")
    left = {each: leave(tmp_path / "out", each) for each in STEPS}
    start_run(step, yaml_file, tmp_path / "out", force=True)
    assert {each for each, file in left.items() if file.is_file()} == kept


@pytest.mark.parametrize("step", ["renderer", "finisher"])
def test_what_draws_went_by_its_forecaster(tmp_path: Path, step: str) -> None:
    start_run(step, write_run(tmp_path / "run.yaml"), tmp_path / "out")
    leave(tmp_path / "out", step)
    other = write_run(tmp_path / "other.yaml", **changed(forecaster={"steps": 9}))
    with pytest.raises(TrainingError, match=rf"forecaster\.steps differs from .* which `train {step}` has used"):
        start_run(step, other, tmp_path / "out")


@pytest.mark.parametrize("change", [{"sampling": 2}, {"guidance": 1.5}])
def test_how_pictures_are_drawn_may_change_until_a_finisher_learns_from_them(tmp_path: Path, change: dict) -> None:
    start_run("renderer", write_run(tmp_path / "run.yaml"), tmp_path / "out")
    leave(tmp_path / "out", "renderer")
    other = write_run(tmp_path / "other.yaml", renderer=change)
    start_run("finisher", other, tmp_path / "out")
    leave(tmp_path / "out", "finisher")
    (name,) = change
    with pytest.raises(TrainingError, match=rf"renderer\.{name} differs from .* which `train finisher` has used"):
        start_run("renderer", tmp_path / "run.yaml", tmp_path / "out")


def test_a_base_gives_features_and_forecaster(tmp_path: Path) -> None:
    base = start_run("pca", write_run(tmp_path / "run.yaml"), tmp_path / "base")
    for step in ("pca", "forecaster", "head"):
        leave(base.path, step)
    fields = {"name": "mine", "base": "base", "data": {"train": [{"path": "own"}]}, "head": {"labels": "data"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields))
    run = start_run("head", tmp_path / "mine.yaml", tmp_path / "mine")
    assert run.spec.backbone == base.spec.backbone
    assert run.needed("pca").read_bytes() == run.needed("forecaster").read_bytes() == b"result"
    assert not run.result("head").exists()
    # Other footage of one's own is no reason to repeat the features.
    leave(run.path, "head")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**fields, "data": {"train": [{"path": "more"}]}}))
    with pytest.raises(TrainingError, match=r"data\.train .* which `train head`"):
        start_run("head", tmp_path / "mine.yaml", tmp_path / "mine")
    start_run("head", tmp_path / "mine.yaml", tmp_path / "mine", force=True)
    # The run is whole by itself, and says what it took over.
    assert read_run_folder(run.path).spec.pca == base.spec.pca
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**fields, "pca": {}}))
    with pytest.raises(TrainingError, match="pca: comes from the base"):
        start_run("head", tmp_path / "mine.yaml", tmp_path / "mine")


def test_what_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    run = start_run("head", write_run(tmp_path / "run.yaml"), tmp_path / "out")
    with pytest.raises(TrainingError, match=r"basis\.npz: is missing: .*re2pix train pca .*/out/run\.yaml -o .*/out"):
        run.needed("pca")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/diary.txt").write_text("mine")
    with pytest.raises(TrainingError, match="exists and is not a run"):
        start_run("pca", write_run(tmp_path / "run.yaml"), tmp_path / "out", force=True)
    assert (tmp_path / "out/diary.txt").read_text() == "mine"
