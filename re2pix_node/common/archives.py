"""Opens zip archives from elsewhere. Their directory is read as a whole, so its size is checked first."""

import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from re2pix_node.common.limits import ZIP_DIRECTORY, Limit

_END = 22  # bytes of the end record of an archive without a comment
_LOCATOR = 20  # bytes of the record before it in large archives, which says where the large end record is


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """The archive; zipfile.BadZipFile if its directory is too large, or if two of its files have one name."""
    size = _directory_size(file)
    if size > ZIP_DIRECTORY.value:
        raise zipfile.BadZipFile(f"its directory is {ZIP_DIRECTORY.amount(size)} large, {ZIP_DIRECTORY}")
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise zipfile.BadZipFile("two of its files have the same name")
    return archive


def load_arrays(file: BinaryIO, limit: Limit) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file, without objects; zipfile.BadZipFile if they unpack to more than the limit."""
    with open_archive(file) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > limit.value:
        raise zipfile.BadZipFile(f"it unpacks to {limit.amount(size)}, {limit}")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _directory_size(file: BinaryIO) -> int:
    end = file.seek(0, 2)
    file.seek(max(0, end - _END - _LOCATOR))
    tail = file.read()
    record = tail[-_END:]
    # A comment could hide a second directory. NumPy and PyTorch write none.
    if len(record) < _END or not record.startswith(b"PK\5\6") or record[-2:] != b"\0\0":
        raise zipfile.BadZipFile("it does not end like a zip archive: it was truncated, or is something else")
    (size,) = struct.unpack_from("<I", record, 12)
    if tail[:4] == b"PK\6\7":
        (at,) = struct.unpack_from("<Q", tail, 8)
        file.seek(min(at, end))
        large = file.read(56)
        # zipfile looks right before the locator, whatever that says: both must be the same place.
        if len(large) < 56 or not large.startswith(b"PK\6\6") or at != end - _END - _LOCATOR - 56:
            raise zipfile.BadZipFile("its directory is damaged")
        (size,) = struct.unpack_from("<Q", large, 40)
    file.seek(0)
    return int(size)
