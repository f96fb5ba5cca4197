import argparse
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from re2pix_node.errors import CheckpointError
from re2pix_node.nets.checkpoints import filled, read_checkpoint


class Opens:
    """Unpickled carelessly, writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("zipped", [True, False])
def test_a_lightning_file_gives_its_tensors_and_settings(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.ckpt"
    content = {
        "state_dict": {"a.weight": torch.arange(3.0), "b": nn.Parameter(torch.ones(2))},
        "hyper_parameters": {"args": argparse.Namespace(heads=8, device=torch.device("cpu"), img_size=(224, 448))},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(4)}}}],
        "callbacks": {"ModelCheckpoint{'monitor': 'val/loss'}": {"best_model_score": torch.tensor(0.1)}},
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    assert {name: t.tolist() for name, t in checkpoint.tensors.items()} == {"a.weight": [0, 1, 2], "b": [1, 1]}
    assert (checkpoint.settings["heads"], checkpoint.settings["img_size"]) == (8, (224, 448))
    assert list(checkpoint.part("a.")) == ["weight"]


def test_a_bare_dictionary_of_tensors_is_a_checkpoint_too(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pth")
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert (list(checkpoint.tensors), checkpoint.settings) == (["w"], {})


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "callbacks"])
def test_a_hostile_pickle_is_refused_by_name_and_not_run(tmp_path: Path, place: str, zipped: bool) -> None:
    content = {"state_dict": {"w": torch.ones(2)}, place: {"x": Opens(tmp_path / "opened")}}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    assert f"{os.system.__module__}.system" in refusal(tmp_path / "a.ckpt")
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("value", [Path("x"), np.float64(1.0), nn.Linear(2, 2)])
def test_harmless_objects_that_are_no_plain_values_are_refused_by_name(tmp_path: Path, value: object) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "extra": value}, tmp_path / "a.ckpt")
    # Which of them an object needs first is its own affair; that there is a name is ours.
    assert "wants to use " in refusal(tmp_path / "a.ckpt")


def test_reading_leaves_no_door_open(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}}, tmp_path / "a.ckpt")
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(tmp_path / "a.ckpt")
    assert set(torch.serialization.get_safe_globals()) == before
    assert argparse.Namespace not in before


@pytest.mark.parametrize("keep", [0, 1, 10, 200, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_one_line(tmp_path: Path, keep: float, zipped: bool) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"w": torch.randn(1000)}}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    assert "download it again" in refusal(path)


def test_other_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "page.ckpt").write_text("<!DOCTYPE html><html>Not found</html>")
    assert "not a PyTorch checkpoint" in refusal(tmp_path / "page.ckpt")
    assert "no such file" in refusal(tmp_path / "missing.ckpt")
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([torch.ones(1)], "holds a list"),
        ({"state_dict": {}}, "no tensors"),
        ({"state_dict": {"w": 3}}, "'w' is a int"),
        ({"state_dict": {3: torch.ones(1)}}, "'3' is a Tensor, expected a tensor with a name"),
        ({"state_dict": {"w": torch.tensor([1.0, float("nan")])}}, "'w' has values that are not finite"),
        ({"state_dict": {"w": torch.ones(1).expand(10**9)}}, "'w' claims more numbers than the file has"),
        ({"state_dict": {"w": torch.ones(2, 2).to_sparse()}}, "'w' is not a plain tensor"),
        ({"state_dict": {"a\nb\x1b[2J": 3}}, r"'a\nb\x1b[2J' is a int"),
    ],
)
def test_what_is_no_set_of_tensors_is_refused(tmp_path: Path, content: object, complaint: str) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    assert complaint in refusal(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"bias": None}, "'net.bias' is missing"),
        ({"extra": torch.ones(1)}, "'net.extra' is unexpected"),
        ({"weight": torch.ones(3, 2)}, "'net.weight' is [3, 2], expected [2, 3]"),
        ({"weight": torch.ones(2, 3, dtype=torch.int64)}, "'net.weight' is torch.int64, expected torch.float32"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(change: dict, complaint: str) -> None:
    tensors = {"weight": torch.ones(2, 3), "bias": torch.ones(2)} | change
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    with pytest.raises(CheckpointError) as caught:
        filled(lambda: nn.Linear(3, 2), tensors, Path("x.ckpt"), "net.")
    assert str(caught.value).startswith(f"x.ckpt: {complaint}")


def test_a_filled_module_is_ready_to_infer_in_full_precision() -> None:
    tensors = {"weight": torch.ones(2, 3, dtype=torch.float16), "bias": torch.ones(2, dtype=torch.float64)}
    net = filled(lambda: nn.Linear(3, 2), tensors, Path("x.ckpt"))
    assert not net.training
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert net(torch.ones(3)).tolist() == [4, 4]
