"""Reads a pickle of NumPy arrays without NumPy's own unpickling, which trusts addresses in forged types.

Arrays and their types are made here, from a name, a shape and bytes. Nothing else in a pickle is accepted.
"""

import io
import math
import pickle
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = re.compile(r"[fiu][1248]|b1")


def read_plain_pickle(data: bytes) -> Any:
    """Dictionaries, lists, plain values and arrays of numbers; pickle.UnpicklingError if there is anything else."""
    return _finished(_ArraysOnly(data).load())


class _Type:
    """Stands for a numpy.dtype: the name of a type of numbers, and its byte order."""

    def __init__(self, name: object, *_: object) -> None:
        if not (isinstance(name, str) and _NUMBERS.fullmatch(name)):
            raise pickle.UnpicklingError(f"it has an array of the type {ascii(name)[:40]}, which is not of numbers")
        self.name = name
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # Version, byte order, and five fields of types that are not of numbers.
        if len(state) < 5 or state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("it has an array of a forged type")
        self.order = state[1]

    def made(self) -> np.dtype[Any]:
        return np.dtype(f"{self.order}{self.name}")


class _Array:
    """Stands for a numpy.ndarray until its content is known."""

    value: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, in_columns, content = state
        if not isinstance(kind, _Type) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it has an array without numbers")
        if math.prod(shape) * kind.made().itemsize != len(content):
            raise pickle.UnpicklingError("it has an array with too few or too many numbers")
        self.value = np.frombuffer(content, kind.made()).reshape(shape, order="F" if in_columns else "C")


class _ArraysOnly(pickle.Unpickler):
    """Gives our own classes and functions in place of NumPy's."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._left = 2 * len(data)  # bytes that may be encoded: a text can be named again and again
        self._known = {
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Type,
            ("_codecs", "encode"): self._encode,
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(f"it wants {module}.{name}")
        return self._known[module, name]

    def _encode(self, text: str, encoding: str) -> bytes:
        self._left -= len(text)
        if encoding != "latin1" or self._left < 0:
            raise pickle.UnpicklingError("it encodes more than it has")
        return text.encode("latin1")


def _finished(value: Any) -> Any:
    """The value with arrays where they were announced."""
    if isinstance(value, dict):
        return {name: _finished(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finished(part) for part in value]
    if isinstance(value, _Array):
        if value.value is None:
            raise pickle.UnpicklingError("it has an array without content")
        return value.value
    return value
