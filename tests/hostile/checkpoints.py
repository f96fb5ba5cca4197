"""Hostile checkpoints: damaged archives, pickles of odd opcodes, tensors that claim more than the file has."""

import functools
import io
import zipfile
from pathlib import Path

import numpy as np
import torch

from re2pix_node.nets.checkpoints import read_checkpoint
from tests.hostile.mutate import damaged

PIECES = (
    b"h\x00", b"](h\x00h\x00eq\x00", b"a", b"(", b"l", b"t", b"d", b"}", b")", b"N", b"\x88", b"\x85R", b"b", b"s",
    b"e", b"cbuiltins\nbytearray\n", b"c_codecs\nencode\n", b"ccollections\nOrderedDict\n", b"ctorch\nSize\n",
    b"Q", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cargparse\nNamespace\n", b"\x8a\x05\x00\xe4\x0b\x54\x02", b"K\x07",
    b"0", b"X\x03\x00\x00\x00abc", b"\x8b\xff\xff\xff\x7f", b"q\x00", b"u", b"\x86", b"\x81", b"2", b"1", b"\x93",
)  # fmt: skip


@functools.cache
def whole(zipped: bool) -> bytes:
    file = io.BytesIO()
    tensors = {f"w{i}": torch.randn(40, 30) for i in range(12)} | {"n": torch.arange(9)}
    torch.save({"state_dict": tensors, "epoch": 3}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def make(rng: np.random.Generator, folder: Path) -> Path:
    path = folder / "a.ckpt"
    zipped = bool(rng.integers(2))
    data = whole(zipped)
    way = int(rng.integers(4))
    if way == 0:
        data = damaged(rng, data)
    elif zipped:
        data = _with_pickle(rng, data, way)
    else:
        data = _odd_pickle(rng) + data if way == 1 else damaged(rng, data[:2000]) + data[2000:]
    path.write_bytes(data)
    return path


def read(path: Path) -> None:
    read_checkpoint(path)


def _with_pickle(rng: np.random.Generator, data: bytes, way: int) -> bytes:
    """The archive with another pickle, with numbers of another length, or deflated."""
    target = io.BytesIO()
    packing = [zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED][rng.integers(3)]
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w", packing) as made:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl") and way == 1:
                content = _odd_pickle(rng)
            elif name.endswith("data.pkl") and way == 2:
                content = damaged(rng, content)
            elif "/data/" in name and way == 3 and rng.integers(3) == 0:
                content = content[: rng.integers(len(content))]
            made.writestr(name, content)
    return target.getvalue()


def _odd_pickle(rng: np.random.Generator) -> bytes:
    pieces = [PIECES[i] for i in rng.integers(len(PIECES), size=int(rng.integers(1, 300)))]
    return b"\x80\x02](K\x01eq\x00" + b"".join(pieces) + b"."
