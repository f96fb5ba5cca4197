import argparse
import os
import zipfile
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


def doubling(levels: int) -> bytes:
    """A list that has the list before it twice, and so on."""
    step = b"](h\x00h\x00eq\x00"
    return b"\x80\x02" + b"](K\x01eq\x00" + step * levels + b"."


def growing(rounds: int) -> bytes:
    """A list that takes itself in."""
    return b"\x80\x02]q\x00" + b"h\x00a" * rounds + b"."


def vast_bytearray() -> bytes:
    return b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0b\x54\x02\x85R."


def codecs() -> bytes:
    return b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00ax\x86R."


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("pickle", "complaint"),
    [
        (doubling(60), "lists inside themselves, the limit is 5000000 parts: set RE2PIX_MAX_PICKLE_PARTS to raise it"),
        (growing(60), "lists inside themselves"),
        (vast_bytearray(), "wants to use 'builtins.bytearray'"),
        (codecs(), "wants to use '_codecs.encode'"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "is not a PyTorch checkpoint"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "its pickle has STACK_GLOBAL"),
    ],
    ids=["doubling", "growing", "bytearray", "codecs", "too short", "protocol 4"],
)
def test_a_small_pickle_that_takes_all_memory_or_time_is_refused(tmp_path, zipped, pickle, complaint) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"w": torch.ones(2)}}, path, _use_new_zipfile_serialization=zipped)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in entries.items():
                archive.writestr(name, pickle if name.endswith("data.pkl") else data)
    else:
        path.write_bytes(pickle + path.read_bytes())
    assert complaint in refusal(path)


def test_deflated_gigabytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(50_000_000))
    assert "its files are compressed" in refusal(path)


def test_the_limits_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {f"w{i}": torch.ones(2) for i in range(99)}}, path)
    for name, value in (("CHECKPOINT_BYTES", 1000), ("PICKLE_BYTES", 100), ("PICKLE_PARTS", 50)):
        with monkeypatch.context() as patched:
            patched.setenv(f"RE2PIX_MAX_{name}", str(value))
            assert f"set RE2PIX_MAX_{name} to raise it" in refusal(path)
    assert len(read_checkpoint(path).tensors) == 99


@pytest.mark.parametrize("device", [True, False])
def test_a_pipe_or_a_device_is_no_checkpoint(tmp_path: Path, device: bool) -> None:
    path = tmp_path / "a.ckpt"
    path.symlink_to("/dev/zero") if device else os.mkfifo(path)
    assert "not a regular file, but a pipe, a socket or a device" in refusal(path)


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
