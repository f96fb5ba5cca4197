"""Reads what a PyTorch file would do when it is loaded, before it is loaded.

PyTorch's own reader for untrusted files runs no foreign code, but a small file can still take all memory or time: by
archives that unpack to gigabytes, by calls that make large objects, and by lists inside lists that count double at
every level. Here nothing is built: only the size of each object is added up.
"""

import io
import os
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from re2pix_node.common.archives import open_archive
from re2pix_node.common.files import check_size, open_regular
from re2pix_node.common.limits import CHECKPOINT_BYTES, PICKLE_BYTES, PICKLE_PARTS, Limit
from re2pix_node.errors import CheckpointError

# What tensors and plain values are made of. Lightning saves the command line of a training as a Namespace.
_KNOWN = re.compile(
    r"torch\._utils (_rebuild_tensor(_v2)?|_rebuild_parameter|_rebuild_sparse_tensor)"
    r"|torch\.serialization _get_layout"
    r"|torch\.storage (Untyped|Typed)Storage"
    r"|torch ((BFloat16|Bool|Byte|Char|Double|Float|Half|Int|Long|Short)Storage|Size|device"
    r"|bfloat16|bool|double|float|half|int|long|short|uint8|u?int(8|16|32|64)|float(16|32|64))"
    r"|collections OrderedDict|argparse Namespace"
)
_DATA = "/data.pkl"
_LEGACY_PICKLES = 5  # magic number, version, machine, content, and the keys of the storages

_Cell = list[int]  # how many values an object has, with those inside; a list, because containers grow


def scan_checkpoint(path: Path) -> bool:
    """Raise CheckpointError if loading the file would do more than make tensors; return whether it is a zip archive.

    OSError if it is no regular file, is missing, or is larger than the limit.
    """
    with open_regular(path) as file:
        check_size(path, os.fstat(file.fileno()).st_size, CHECKPOINT_BYTES)
        zipped = file.read(4) == b"PK\3\4"
        file.seek(0)
        try:
            _scan_archive(path, file) if zipped else _scan_legacy(path, file)
        except CheckpointError:
            raise
        except Exception as error:  # a damaged archive or pickle can raise any error
            reason = ascii(" ".join(str(error).split())[:120] or type(error).__name__)[1:-1]
            raise CheckpointError(
                f"{path}: is not a PyTorch checkpoint, or is damaged ({reason}): download it again"
            ) from None
    return zipped


def _scan_archive(path: Path, file: BinaryIO) -> None:
    with open_archive(file) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise CheckpointError(f"{path}: its files are compressed, PyTorch's are not: do not use this file")
        (name,) = (name for name in archive.namelist() if name.endswith(_DATA) and name.count("/") == 1)
        _refuse_large(path, archive.getinfo(name).file_size)
        _Sizes(path).of(io.BytesIO(archive.read(name)))


def _scan_legacy(path: Path, file: BinaryIO) -> None:
    """Files of PyTorch before 1.6: several pickles, then the numbers."""
    pickles = io.BytesIO(file.read(PICKLE_BYTES.value))
    sizes = _Sizes(path)
    for _ in range(_LEGACY_PICKLES):
        sizes.of(pickles)


def _refuse_large(path: Path, size: int, limit: Limit = PICKLE_BYTES) -> None:
    if size > limit.value:
        raise CheckpointError(f"{path}: {limit.what} is {limit.amount(size)} large, {limit}")


class _Sizes:
    """Follows a pickle and adds up the sizes of its objects."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = PICKLE_PARTS.value  # opcodes
        self._stack: list[_Cell] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Cell] = {}

    def of(self, pickle: io.BytesIO) -> None:
        self._stack, self._marks, self._memo = [], [], {}
        for opcode, argument, _ in self._opcodes(pickle):
            self._follow(opcode.name, argument)

    def _opcodes(self, pickle: io.BytesIO) -> Iterator[tuple[Any, Any, Any]]:
        for found in pickletools.genops(pickle):
            self._left -= 1
            if self._left < 0:
                self._refuse_many()
            yield found

    def _follow(self, name: str, argument: Any) -> None:
        if name == "GLOBAL":
            self._check_global(argument)
        if name in _ATOMS:
            self._stack.append([1])
        elif name in _JOINED:
            self._join(_JOINED[name])
        elif name in _ADDED:
            self._add(_ADDED[name])
        elif name in _MARKED:
            self._join(len(self._stack) - self._marks.pop())
        elif name in _ADDED_MARKED:
            self._add(len(self._stack) - self._marks.pop())
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._remember(name, argument)

    def _remember(self, name: str, argument: Any) -> None:
        if name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        else:
            raise CheckpointError(f"{self._path}: its pickle has {name}, which PyTorch does not write: do not use it")

    def _join(self, count: int) -> None:
        parts = [self._stack.pop()[0] for _ in range(count)]
        self._stack.append([self._checked(1 + sum(parts))])

    def _add(self, count: int) -> None:
        parts = [self._stack.pop()[0] for _ in range(count)]
        self._stack[-1][0] = self._checked(self._stack[-1][0] + sum(parts))

    def _checked(self, size: int) -> int:
        if size > PICKLE_PARTS.value:
            self._refuse_many()
        return size

    def _refuse_many(self) -> None:
        raise CheckpointError(f"{self._path}: it has too many values, or lists inside themselves, {PICKLE_PARTS}")

    def _check_global(self, name: str) -> None:
        if not _KNOWN.fullmatch(name):
            shown = ascii(name.replace(" ", ".", 1)[:100])
            raise CheckpointError(
                f"{self._path}: wants to use {shown}, which is neither a tensor nor a plain value: nothing in it "
                "was run; do not use this file"
            )


_ATOMS = {"GLOBAL", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE", "EMPTY_SET"}
_ATOMS |= {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE"}
_ATOMS |= {"SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING"}
# One object of this many others, or of all since the mark; and how many, or all since the mark, an object takes in.
_JOINED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1}
_MARKED = {"TUPLE", "LIST", "DICT"}
_ADDED = {"APPEND": 1, "BUILD": 1, "SETITEM": 2}
_ADDED_MARKED = {"APPENDS", "SETITEMS", "ADDITEMS"}
