"""Reads ONNX files far enough to know that engines may see them.

Engines parse damaged files with native code that trusts them: truncated graphs have corrupted memory, and weights
"in another file" can name any file or any address. This is our own reader of the protobuf wire format. It knows only
what it must: that the file is whole, that every tensor is in it, and has as much data as its shape says.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from re2pix_node.common.limits import GRAPH_FIELDS, TENSOR_VALUES
from re2pix_node.errors import BundleError

DEPTH_MAX = 8  # graphs inside graphs
DIMENSIONS_MAX = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DOMAINS = (b"", b"ai.onnx")
_EXTERNAL = 1  # value of TensorProto.data_location
# Bits of a value by TensorProto.data_type. Text (8) and complex numbers (14, 15) are not used by vision models.
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16}
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4}
# Fields of a TensorProto that hold values, with the bytes of each; 0: varints.
_CONTINUED = bytes(range(128, 256))
_VALUES = {4: 4, 5: 0, 7: 0, 10: 8, 11: 0}


class _Field(NamedTuple):
    number: int
    kind: int
    value: int  # of a varint
    start: int  # of the content
    end: int


def check_onnx(data: bytes, where: str) -> None:
    """BundleError if the file is incomplete, refers to anything outside of it, or has a tensor that cannot be."""
    try:
        _Reader(data).model()
    except _RefusedGraphError as error:
        raise BundleError(f"{where}: {error}") from None


class _RefusedGraphError(ValueError):
    pass


def _refuse(what: str) -> None:
    raise _RefusedGraphError(what)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = GRAPH_FIELDS.value

    def model(self) -> None:
        found = set()
        for field in self._fields(0, len(self._data)):
            found.add(field.number)
            if field.number == 7:
                self._graph(field, 0)
            elif field.number == 8:
                self._opset(field)
            elif field.number in (20, 25):
                what = "training steps" if field.number == 20 else "functions of its own"
                _refuse(f"the graph has {what}, which a bundle does not need: export it again without them")
        missing = {1: "version", 7: "graph", 8: "opset"}.keys() - found
        if missing:
            _refuse("the ONNX file is incomplete: copy the bundle again, whole, or export it again")

    def _opset(self, field: _Field) -> None:
        for part in self._within(field):
            if part.number == 1 and self._content(part) not in _DOMAINS:
                domain = self._content(part)[:60].decode(errors="replace")
                _refuse(f"operators of the domain {domain!a} run in one engine only: export without them")

    def _graph(self, field: _Field, depth: int) -> None:
        if depth > DEPTH_MAX:
            _refuse("graphs are nested too deeply")
        readers: dict[int, Callable[[_Field], None]] = {
            1: lambda part: self._node(part, depth),
            5: self._tensor,
            11: self._value,
            12: self._value,
            13: self._value,
            15: self._sparse,
        }
        for part in self._within(field):
            if part.number in readers:
                readers[part.number](part)

    def _node(self, field: _Field, depth: int) -> None:
        for part in self._within(field):
            if part.number == 5:
                self._attribute(part, depth)
            elif part.number == 7 and self._content(part) not in _DOMAINS:
                _refuse("an operator of another domain runs in one engine only: export without it")

    def _attribute(self, field: _Field, depth: int) -> None:
        for part in self._within(field):
            if part.number in (5, 10):
                self._tensor(part)
            elif part.number in (6, 11):
                self._graph(part, depth + 1)
            elif part.number in (22, 23):
                self._sparse(part)

    def _sparse(self, field: _Field) -> None:
        for part in self._within(field):
            if part.number in (1, 2):
                self._tensor(part)

    def _tensor(self, field: _Field) -> None:
        """A tensor with its data: as much as its type and shape need."""
        shape: list[int] = []
        kind, raw, values = 0, None, 0
        for part in self._within(field):
            if part.number == 1:
                shape += self._numbers(part)
            elif part.number == 2:
                kind = part.value
            elif part.number == 9:
                raw = part.end - part.start
            elif part.number in _VALUES:
                values += self._count(part, _VALUES[part.number])
            elif part.number == 13 or (part.number == 14 and part.value == _EXTERNAL):
                _refuse("has weights in another file: a graph of a bundle is one file, export it as one")
        if kind not in _BITS:
            _refuse(f"has a tensor of the ONNX type {kind}, which no engine needs here: export without it")
        wanted = _volume(shape)
        if raw is None:
            fits = values == (-(-wanted // 2) if _BITS[kind] == 4 else wanted)  # two in a number
        else:
            fits = raw == -(-wanted * _BITS[kind] // 8)
        if not fits:
            _refuse(f"a tensor of {wanted} values has data for another number: copy the bundle again, whole")

    def _value(self, field: _Field) -> None:
        """The declared type of an input, an output or a value between: its shape must be possible."""
        for kind in self._only(field, 2):  # TypeProto
            for tensor in self._only(kind, 1):
                for shape in self._only(tensor, 2):
                    known = [part.value for dim in self._only(shape, 1) for part in self._only(dim, 1)]
                    _volume(known)

    def _only(self, field: _Field, number: int) -> Iterator[_Field]:
        return (part for part in self._within(field) if part.number == number)

    def _within(self, field: _Field) -> Iterator[_Field]:
        if field.kind != _BYTES:
            _refuse("the ONNX file is damaged: copy the bundle again, whole")
        return self._fields(field.start, field.end)

    def _content(self, field: _Field) -> bytes:
        return self._data[field.start : field.end]

    def _numbers(self, field: _Field) -> list[int]:
        """One number, or several packed into one field."""
        if field.kind == _VARINT:
            return [field.value]
        found: list[int] = []
        at = field.start
        while at < field.end and len(found) <= DIMENSIONS_MAX:
            value, at = self._varint(at, field.end)
            found.append(value)
        return found

    def _count(self, field: _Field, size: int) -> int:
        if field.kind != _BYTES:
            return 1
        length = field.end - field.start
        if size:
            return length // size
        # The last byte of each varint is below 128.
        return len(self._content(field).translate(None, _CONTINUED))

    def _fields(self, at: int, end: int) -> Iterator[_Field]:
        while at < end:
            self._left -= 1
            if self._left < 0:
                _refuse(f"the graph has too many protobuf fields, {GRAPH_FIELDS}")
            tag, at = self._varint(at, end)
            number, kind, value, start = tag >> 3, tag & 7, 0, at
            if kind == _VARINT:
                value, at = self._varint(at, end)
            elif kind == _BYTES:
                length, start = self._varint(at, end)
                at = start + length
            elif kind in (_FIXED32, _FIXED64):
                at += 4 if kind == _FIXED32 else 8
            else:
                at = end + 1
            if at > end or not number:
                _refuse("the ONNX file is incomplete or damaged: copy the bundle again, whole")
            yield _Field(number, kind, value, start, at)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at
        raise _RefusedGraphError("the ONNX file is incomplete or damaged: copy the bundle again, whole")


def _volume(shape: list[int]) -> int:
    if len(shape) > DIMENSIONS_MAX:
        _refuse(f"has a tensor of more than {DIMENSIONS_MAX} dimensions")
    values = math.prod(shape)
    # Negative sizes are huge here, because protobuf stores them as their complement of 2^64.
    if values > TENSOR_VALUES.value or max(shape, default=0) > TENSOR_VALUES.value:
        _refuse(f"has a tensor of {' x '.join(map(str, shape))} values, {TENSOR_VALUES}")
    return values
