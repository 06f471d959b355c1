"""Binary values of a Parquet file, decoded piece by piece.

A group of rows may hold more than the 2 GiB that pyarrow decodes of a nested column at once, and
more than the memory.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from crkd.core.parquet_file import in_pieces, rows_of_a_piece
from crkd.data.storage.free_memory import free_host_bytes

KEPT_BYTES: Final = 512 << 20
"""Bytes of the pieces of all files that are kept in memory. Two groups of rows of an open file are
kept beyond that where they take at most a quarter of the free memory."""
_OPEN_GROUPS: Final = 2


class _Place(NamedTuple):
    """A piece: number of the file in this process, group of rows, number in the group."""

    file: int
    group: int
    number: int


class _KeptPieces:
    """The pieces that were used last, of all files of the process."""

    def __init__(self) -> None:
        # The end of a file may be noticed by this thread while it holds the lock.
        self._lock = threading.RLock()
        self._pieces: OrderedDict[_Place, Any] = OrderedDict()
        self._bytes = 0
        self._groups: dict[int, int] = {}

    def open(self, file: int, group_bytes: int) -> None:
        """Keep up to these bytes as long as a file is open."""
        with self._lock:
            self._groups[file] = group_bytes

    def get(self, place: _Place) -> Any:
        """Return a piece; None if it is not kept."""
        with self._lock:
            piece = self._pieces.get(place)
            if piece is not None:
                self._pieces.move_to_end(place)
            return piece

    def add(self, place: _Place, piece: Any) -> None:
        with self._lock:
            self._remove(place)
            self._pieces[place] = piece
            size = piece.nbytes
            self._bytes += size
            limit = max([KEPT_BYTES, *self._groups.values()])
            while self._bytes > limit and len(self._pieces) > 1:
                self._remove(next(iter(self._pieces)))

    def forget(self, file: int) -> None:
        """Drop all pieces of a file."""
        with self._lock:
            self._groups.pop(file, None)
            for place in [place for place in self._pieces if place.file == file]:
                self._remove(place)

    def _remove(self, place: _Place) -> None:
        piece = self._pieces.pop(place, None)
        if piece is not None:
            size = piece.nbytes
            self._bytes -= size


_KEPT: Final = _KeptPieces()
_FILES: Final = itertools.count()


class TablePieces:
    """The values of a binary field of a struct column, by row. Safe to use from many threads.

    A group of rows is decoded from its first row on, so values are read fast in the order of the
    file. Threads wait for each other only where they need pieces of one group that are not decoded.

    Args:
        file: the ``pyarrow.NativeFile``, open for reading.
        metadata: its ``pyarrow.parquet.FileMetaData``.
        column: name of the struct column.
        field: name of the field in the struct.
        group_bytes: bytes of each group of rows, as the file declares them.
    """

    def __init__(
        self, file: Any, metadata: Any, column: str, field: str, group_bytes: Sequence[int]
    ) -> None:
        self._file, self._metadata, self._column, self._field = file, metadata, column, field
        self._bytes = group_bytes
        self._lengths: list[int] = [
            metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)
        ]
        self._starts = np.cumsum([0, *self._lengths])
        self._groups: OrderedDict[int, _Group] = OrderedDict()
        self._failed: dict[int, tuple[int, Exception]] = {}
        self._lock = threading.Lock()
        self._number = next(_FILES)
        # Images in any order would decode a large group again for each of them.
        groups = _OPEN_GROUPS * max(group_bytes, default=0)
        _KEPT.open(self._number, groups if groups <= free_host_bytes() // 4 else 0)
        weakref.finalize(self, _KEPT.forget, self._number)

    def value(self, row: int) -> Any:
        """Return the ``pyarrow.Scalar`` of a row.

        Raises:
            pyarrow.ArrowException: the file is damaged.
            OSError: the file is damaged or cannot be read.
        """
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        place, rest = divmod(row - int(self._starts[number]), self._piece_rows(number))
        return self._piece(_Place(self._number, number, place))[rest]

    def _piece_rows(self, group: int) -> int:
        return rows_of_a_piece(self._bytes[group], self._lengths[group])

    def _piece(self, place: _Place) -> Any:
        piece = _KEPT.get(place)
        if piece is not None:
            return piece
        group = self._group(place.group)
        with group.lock:
            # Another thread may have decoded it while this one waited.
            piece = _KEPT.get(place)
            return self._decoded(group, place) if piece is None else piece

    def _group(self, number: int) -> _Group:
        with self._lock:
            if number not in self._groups:
                self._groups[number] = _Group()
            self._groups.move_to_end(number)
            while len(self._groups) > _OPEN_GROUPS:
                self._groups.popitem(last=False)
            return self._groups[number]

    def _decoded(self, group: _Group, place: _Place) -> Any:
        """Return a piece after those before it, which are kept."""
        import pyarrow

        failed, error = self._failed.get(place.group, (place.number + 1, None))
        if error is not None and place.number >= failed:
            raise error
        if group.next > place.number:
            group.pieces, group.next = None, 0
        try:
            while True:
                if group.pieces is None:
                    group.pieces = self._pieces(place.group)
                piece = next(group.pieces, None)
                if piece is None:
                    raise OSError("a group of rows has fewer rows than it declares")
                at = place._replace(number=group.next)
                _KEPT.add(at, piece)
                group.next += 1
                if at == place:
                    return piece
        except (pyarrow.ArrowException, OSError) as error:
            # The rest of a damaged group is not decoded again for each of its rows. An error of the
            # drive has a number of the system, and the next call tries again.
            if getattr(error, "errno", None) is None:
                self._failed[place.group] = (group.next, error)
            group.pieces, group.next = None, 0
            raise

    def _pieces(self, group: int) -> Iterator[Any]:
        """Yield the pieces of a group, in order."""
        import pyarrow

        rows, length = self._piece_rows(group), self._lengths[group]
        done = 0
        try:
            for piece in self._batches(group, rows):
                yield piece
                done += 1
        except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowCapacityError):
            # The rows of a piece are far larger than the others: they do not fit into one array.
            single = itertools.islice(self._batches(group, 1), done * rows, None)
            for start in range(done * rows, length, rows):
                yield _Rows(list(itertools.islice(single, min(rows, length - start))))

    def _batches(self, group: int, rows: int) -> Iterator[Any]:
        import pyarrow.compute

        opened = in_pieces(self._file, self._metadata)
        columns = [f"{self._column}.{self._field}"]
        left = self._lengths[group]
        for batch in opened.iter_batches(batch_size=rows, row_groups=[group], columns=columns):
            if len(batch) != min(rows, left):
                raise OSError("a group of rows has other pieces than it declares")
            left -= len(batch)
            # Offsets of a damaged file may lead anywhere.
            batch.validate(full=True)
            yield pyarrow.compute.struct_field(
                batch.column(batch.schema.get_field_index(self._column)), self._field
            )


class _Group:
    """A group of rows that is being decoded: the next piece, and its number."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pieces: Iterator[Any] | None = None
        self.next = 0


class _Rows:
    """A piece whose rows are arrays of their own."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows
        self.nbytes: int = sum(row.nbytes for row in rows)

    def __getitem__(self, row: int) -> Any:
        return self._rows[row][0]
