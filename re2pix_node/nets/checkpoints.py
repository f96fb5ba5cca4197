"""Reads checkpoints from the internet as data, never as code, and accepts them only if every tensor fits."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from re2pix_node.common.wording import one_line
from re2pix_node.errors import CheckpointError
from re2pix_node.nets.checkpoint_scan import scan_checkpoint

# Lightning saves the command line of a training; all other objects except tensors are refused.
ALLOWED = (argparse.Namespace,)
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file by name, and the settings of its training, if the file has them."""

    path: Path
    tensors: dict[str, Tensor]
    settings: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix`, named by the rest."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor that determines other shapes."""
        shape = tuple(self._tensor(name).shape)
        if len(shape) != dimensions or not all(shape):
            raise CheckpointError(f"{self.path}: '{name}' is {_text(shape)}, expected {dimensions} dimensions")
        return shape

    def sized(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._tensor(name)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"{self.path}: '{name}' is {_text(tensor.shape)}, expected {_text(shape)}")
        return tensor

    def count(self, prefix: str) -> int:
        """The number of numbered parts of `prefix`: 12 for `blocks.` with `blocks.0.` to `blocks.11.`."""
        return len({name.partition(".")[0] for name in self.part(prefix)})

    def _tensor(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise CheckpointError(_missing(self.path, name))
        return self.tensors[name]


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a PyTorch file: a Lightning checkpoint (`state_dict`), or a bare dictionary of tensors."""
    # Two thirds of a training's checkpoint belong to the optimiser, and are never read.
    content = load_plain(path, mapped=True)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors")
    tensors = content.get("state_dict", content)
    if not isinstance(tensors, dict) or not tensors:
        raise CheckpointError(f"{path}: has no tensors in 'state_dict'")
    for name, tensor in tensors.items():
        _check_tensor(path, name, tensor)
    _check_finite(path, tensors)
    return Checkpoint(path, dict(tensors), _settings(content))


def filled(make: Callable[[], Module], tensors: Mapping[str, Tensor], path: Path, prefix: str = "") -> Module:
    """A module in evaluation mode with exactly these tensors, in fp32; errors name them with `prefix`."""
    with torch.device("meta"):  # allocate nothing before all shapes are checked
        module = make()
    expected = module.state_dict()
    for name in expected:
        if name not in tensors:
            raise CheckpointError(_missing(path, prefix + name))
    for name, tensor in tensors.items():
        at = f"{path}: {_quoted(prefix + name)}"
        if name not in expected:
            raise CheckpointError(f"{at} is unexpected: this is another kind of model, or another setting of it")
        if tensor.shape != expected[name].shape:
            raise CheckpointError(f"{at} is {_text(tensor.shape)}, expected {_text(expected[name].shape)}")
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise CheckpointError(f"{at} is {tensor.dtype}, expected {expected[name].dtype}")
    module.load_state_dict(dict(tensors), assign=True)
    return module.float().eval().requires_grad_(False)


def load_plain(path: Path, mapped: bool = False) -> object:
    """The content of a PyTorch file: tensors and plain values. CheckpointError if there is anything else in it.

    With `mapped` a zip archive is mapped from the disk: the file must not change as long as the tensors are in use.
    """
    try:
        mapped &= scan_checkpoint(path)
        with torch.serialization.safe_globals(list(ALLOWED)):
            content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        return content
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # a damaged archive can raise any error
        reason = one_line(error, 120)
        raise CheckpointError(
            f"{path}: is not a PyTorch checkpoint, or is damaged ({reason}): download it again"
        ) from None


def _check_tensor(path: Path, name: object, tensor: object) -> None:
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        raise CheckpointError(f"{path}: {_quoted(name)} is a {type(tensor).__name__}, expected a tensor with a name")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise CheckpointError(f"{path}: {_quoted(name)} is not a plain tensor of numbers")
    # Strides of zero turn one number into a tensor of any size.
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: {_quoted(name)} claims more numbers than the file has")


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    # PyTorch lets a tensor make its storage larger than the file has it.
    if sum(storages.values()) > path.stat().st_size:
        raise CheckpointError(f"{path}: its tensors claim more numbers than the file has")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {_quoted(name)} has values that are not finite")


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    settings = content.get("hyper_parameters", {})
    if isinstance(settings, dict):
        settings = settings.get("args", settings)
    if isinstance(settings, argparse.Namespace):
        settings = vars(settings)
    return dict(settings) if isinstance(settings, dict) else {}


def _quoted(name: object) -> str:
    """A name from an untrusted file: on one line, without control characters, and shortened."""
    return f"{str(name)[:100]!a}"


def _missing(path: Path, name: str) -> str:
    return f"{path}: '{name}' is missing: this is another checkpoint"


def _text(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
