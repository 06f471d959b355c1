"""Arrays of ``.npy`` and ``.npz`` files: the header is checked before memory is used."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.data.vectors.declared_size import OBJECT_BYTES, check_declared_size
from crkd.data.vectors.row_file import IN_MEMORY, RowFile, RowWriter

Array = npt.NDArray[Any]

_DAMAGE: Final = (
    ValueError,
    OSError,
    EOFError,
    SyntaxError,
    RuntimeError,
    RecursionError,
    OverflowError,
    TypeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions of the readers for damaged files."""
_CHUNK: Final = 16 << 20
_ENCRYPTED: Final = 1


def read_npy(file: Path) -> Array | RowFile:
    """Return the array of a ``.npy`` file; large vectors of float32 stay in the file.

    Raises:
        InputError: the file is damaged, of another kind, or holds more than the memory does.
    """
    try:
        with file.open("rb") as stream:
            return _array(file, stream, file.stat().st_size)
    except InputError:
        raise
    except _DAMAGE as error:
        raise unreadable(file, error) from None


def read_npz(file: Path, names: Sequence[str]) -> tuple[dict[str, Array | RowFile], list[str]]:
    """Return some arrays of a ``.npz`` file, and the names of all that it has.

    Large vectors are in a temporary file.

    Args:
        file: as ``numpy.savez`` or ``numpy.savez_compressed`` writes it.
        names: arrays to read; those that are missing are left out.

    Raises:
        InputError: the file is damaged, encrypted or of another kind, or holds more than the
            memory does.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            present = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            members = {n: archive.getinfo(f"{n}.npy") for n in names if n in present}
            return {n: _member(file, archive, member) for n, member in members.items()}, present
    except InputError:
        raise
    except _DAMAGE as error:
        raise unreadable(file, error) from None


def unreadable(file: Path, error: Exception) -> InputError:
    """Return the refusal of a damaged file."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(
        f"cannot read the file {str(file)!r}: {reason}; write it again, with arrays of "
        "plain numbers or text"
    )


def _member(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array | RowFile:
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{member.filename!r} is encrypted")
    # Other methods may ask for gigabytes before the first byte, and numpy writes none of them.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename!r} is compressed by another method than deflate")
    with archive.open(member) as stream:
        return _array(file, stream, member.file_size)


def _array(file: Path, stream: IO[bytes], size: int) -> Array | RowFile:
    """Return the array of an open ``.npy`` file of so many bytes."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the array format holds no plain numbers or text")
    shape, fortran, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never read")
    if min(shape, default=0) < 0:
        raise ValueError(f"its header declares the shape {shape}")
    count = math.prod(shape)
    is_text = dtype.kind not in "fiub"
    # Numbers are converted to float32; texts become objects.
    whole = count * (dtype.itemsize + (OBJECT_BYTES if is_text else 4))
    in_file = not is_text and not fortran and len(shape) == 2 and 4 * count > IN_MEMORY
    check_declared_size(file, whole, 2 * _CHUNK if in_file else None)
    needed = count * dtype.itemsize
    if needed > size - stream.tell():
        raise ValueError(f"it ends before the {needed:,} bytes that its header declares")
    if in_file:
        return _rows_in_file(file, stream, (shape[0], shape[1]), dtype)
    values = _values(stream, count, dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _rows_in_file(
    file: Path, stream: IO[bytes], shape: tuple[int, int], dtype: np.dtype[Any]
) -> RowFile:
    """Return vectors as they are in an ``.npy`` file; others are converted into a temporary one."""
    if isinstance(stream, io.BufferedReader) and dtype == np.dtype("<f4"):
        return RowFile(file.open("rb"), shape, stream.tell())
    writer, each = RowWriter(file, 4 * shape[0] * shape[1]), max(1, _CHUNK // (8 * shape[1]))
    for start in range(0, shape[0], each):
        count = min(each, shape[0] - start)
        rows = _values(stream, count * shape[1], dtype).reshape(count, shape[1])
        with np.errstate(over="ignore"):
            writer.add(rows.astype(np.float32, copy=False))
    # The checksum of an archive is compared when its end is read.
    stream.read(1)
    return writer.finished()


def _values(stream: IO[bytes], count: int, dtype: np.dtype[Any]) -> Array:
    """Read the next values of a stream, ``(count,)``."""
    needed = count * dtype.itemsize
    values = np.empty(count, dtype)
    view = memoryview(values.view(np.uint8)) if needed else memoryview(b"")
    for start in range(0, needed, _CHUNK):
        part = stream.read(min(_CHUNK, needed - start))
        if len(part) != min(_CHUNK, needed - start):
            raise EOFError("it ends too early")
        view[start : start + len(part)] = part
    return values
