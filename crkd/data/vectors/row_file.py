"""Rows of vectors in a file: only those that are asked for are in memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.data.vectors.declared_size import check_memory, format_bytes

IN_MEMORY: Final = 256 << 20
"""Bytes of vectors up to which they are read into memory at once."""
PIECE_ROWS: Final = 4096
"""Rows that are converted at once."""
_READ: Final = 256 << 10

Floats = npt.NDArray[np.float32]
Index: TypeAlias = "slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]"


class RowFile:
    """N vectors of D float32 in a file, one after the other.

    Rows are read, not mapped, so that those that were used do not count as memory of the process.
    Safe to use from many threads.

    Args:
        file: open for reading; it is closed with the last reference.
        shape: N and D.
        offset: position of the first row in bytes.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, int], offset: int = 0) -> None:
        self.shape: tuple[int, int] = shape
        self._file, self._offset = file, offset

    def __len__(self) -> int:
        """Return N."""
        return self.shape[0]

    def __getitem__(self, index: Index) -> Floats:
        """Return ``(n, D)`` rows, by a slice without a step, by positions or by a mask.

        Raises:
            InputError: the file was shortened.
        """
        positions = _positions(index, len(self))
        found = np.empty((len(positions), self.shape[1]), np.float32)
        if isinstance(positions, range) or not len(positions):
            self._read(positions.start if isinstance(positions, range) else 0, found)
            return found
        # Neighboring rows are read together, and each one once.
        rows, places = np.unique(positions, return_inverse=True)
        ascending = np.array_equal(rows, positions)
        read = found if ascending else np.empty((len(rows), self.shape[1]), np.float32)
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            self._read(int(rows[start]), read[start:stop])
        return read if ascending else np.take(read, places, axis=0, out=found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all rows as an array.

        Raises:
            InputError: they do not fit into the memory.
        """
        return whole(self, dtype)

    def _read(self, first: int, rows: Floats) -> None:
        """Fill consecutive rows from the file."""
        view = memoryview(rows.reshape(-1).view(np.uint8)) if rows.size else memoryview(b"")
        at = self._offset + 4 * self.shape[1] * first
        while len(view):
            part = os.pread(self._file.fileno(), min(len(view), _READ), at)
            if not part:
                raise InputError(
                    f"the file {self._file.name!r} was shortened while it was read; restore it"
                )
            view[: len(part)] = part
            view, at = view[len(part) :], at + len(part)


class StackedRows:
    """The rows of several arrays or files as one sequence.

    Args:
        parts: arrays ``(n, D)`` float32 and row files of the same D.
    """

    def __init__(self, parts: Sequence[VectorRows]) -> None:
        self._parts: Sequence[VectorRows] = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.shape: tuple[int, int] = (int(self._starts[-1]), parts[0].shape[1])

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, index: Index) -> Floats:
        """Return ``(n, D)`` rows, as :meth:`RowFile.__getitem__`."""
        positions = np.asarray(_positions(index, len(self)))
        numbers = np.searchsorted(self._starts, positions, side="right") - 1
        found = np.empty((len(positions), self.shape[1]), np.float32)
        for number in np.unique(numbers):
            mine = numbers == number
            rows = positions[mine] - self._starts[number]
            found[mine] = self._parts[number][rows]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all rows, as :meth:`RowFile.__array__`."""
        return whole(self, dtype)


VectorRows: TypeAlias = "Floats | RowFile | StackedRows"
"""Vectors ``(N, D)`` in memory or in files; rows are taken by a slice, positions or a mask."""


def stacked(parts: Sequence[VectorRows]) -> VectorRows:
    """Return the rows of several parts as one sequence; in memory where all parts are."""
    if all(isinstance(part, np.ndarray) for part in parts):
        joined: Floats = np.concatenate([np.asarray(part) for part in parts])
        return joined
    return StackedRows(parts)


def whole(rows: RowFile | StackedRows, dtype: Any = None) -> npt.NDArray[Any]:
    """Return all rows as an array.

    Raises:
        InputError: they do not fit into the memory.
    """
    check_memory(4 * rows.shape[0] * rows.shape[1], f"reading {len(rows):,} vectors at once")
    found = rows[slice(0, len(rows))]
    return found if dtype is None else found.astype(dtype, copy=False)


class RowWriter:
    """Writes vectors into a temporary file, which the system deletes after the last reader.

    Args:
        near: a file in whose folder it is made; else it is in the folder for temporary files.
        num_bytes: how much will be written.

    Raises:
        InputError: there is not enough space.
    """

    def __init__(self, near: Path, num_bytes: int) -> None:
        self._near, self._rows, self._width = near, 0, 0
        folder = next(place for place in (near.parent, None) if place is None or _writable(place))
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        if num_bytes > shutil.disk_usage(self._folder).free:
            raise self._full(format_bytes(num_bytes))
        self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 closed with its reader

    def add(self, rows: Floats) -> None:
        """Append rows ``(n, D)`` float32.

        Raises:
            InputError: the disk is full.
        """
        try:
            self._file.write(np.ascontiguousarray(rows, np.float32).reshape(-1).view(np.uint8))
        except OSError as error:
            raise self._full(error.strerror or str(error)) from None
        self._rows, self._width = self._rows + len(rows), rows.shape[1]

    def finished(self) -> RowFile:
        """Return the rows."""
        self._file.flush()
        return RowFile(self._file, (self._rows, self._width))

    def _full(self, reason: str) -> InputError:
        return InputError(
            f"the vectors of {str(self._near)!r} do not fit into a temporary file in "
            f"{str(self._folder)!r} ({reason}); free space there, or give an .npy file of float32, "
            "which is read where it is"
        )


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _positions(index: Index, count: int) -> range | npt.NDArray[np.int64]:
    """Return the positions that an index means, consecutive ones as a range."""
    if isinstance(index, slice):
        start, stop, step = index.indices(count)
        if step != 1:
            raise ValueError(f"a slice of rows has the step {step}")
        return range(start, max(start, stop))
    if index.dtype == np.bool_:
        return np.flatnonzero(index)
    return np.asarray(index, np.int64)
