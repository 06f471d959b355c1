"""Arrays of ``.npy`` and ``.npz`` files: the header is checked before memory is used."""

from __future__ import annotations

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
"""What the readers raise for damaged files."""
_CHUNK: Final = 16 << 20
_ENCRYPTED: Final = 1


def read_npy(file: Path) -> Array:
    """Return the array of a ``.npy`` file.

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


def read_npz(file: Path, names: Sequence[str]) -> tuple[dict[str, Array], list[str]]:
    """Return some arrays of a ``.npz`` file, and the names of all that it has.

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


def _member(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{member.filename!r} is encrypted")
    # Other methods may ask for gigabytes before the first byte, and numpy writes none of them.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename!r} is compressed by another method than deflate")
    with archive.open(member) as stream:
        return _array(file, stream, member.file_size)


def _array(file: Path, stream: IO[bytes], size: int) -> Array:
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
    check_declared_size(file, count * (dtype.itemsize + (OBJECT_BYTES if is_text else 4)))
    needed = count * dtype.itemsize
    if needed > size - stream.tell():
        raise ValueError(f"it ends before the {needed:,} bytes that its header declares")
    values = np.empty(count, dtype)
    view = memoryview(values.view(np.uint8)) if needed else memoryview(b"")
    for start in range(0, needed, _CHUNK):
        part = stream.read(min(_CHUNK, needed - start))
        if len(part) != min(_CHUNK, needed - start):
            raise EOFError("it ends too early")
        view[start : start + len(part)] = part
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)
