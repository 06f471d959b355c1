"""Sizes that the footer of a Parquet file declares for its column chunks.

They are read here, and not by ``RowGroupMetaData.column`` of pyarrow: that call ends the whole
process where the size statistics of a chunk are damaged, because it does not catch the error of the
library below. Everything else of pyarrow reports such a file as an exception. The number of rows
does not replace these sizes: one row may declare a list of billions of equal values, and a chunk
may declare more values than its group has rows.

The footer is a struct ``FileMetaData`` in the compact protocol of Apache Thrift:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

MAX_FOOTER: Final = 32 << 20
"""Most bytes of a footer that is read: more than 100,000 column chunks."""
_MAGIC: Final = b"PAR1"
_MAX_DEPTH: Final = 16
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = (
    *(0, 1, 2, 3),
    *(7, 8, 9, 10, 11, 12),
)
_INTEGERS: Final = (4, 5, 6)
# Numbers of the fields down to the three of each column chunk: its type, values and bytes.
_TYPE, _NUM_VALUES, _BYTES = 1, 5, 6
_GROUPS, _COLUMNS, _METADATA = 4, 1, 3
_WANTED: Final[dict[int, Any]] = {
    _GROUPS: {_COLUMNS: {_METADATA: {_TYPE: None, _NUM_VALUES: None, _BYTES: None}}}
}


class ColumnChunk(NamedTuple):
    """The values of one column in one group of rows.

    Attributes:
        type: number of the physical type (0 boolean, 1 int32, 2 int64, 3 int96, 4 float, 5 double,
            6 byte array, 7 byte array of fixed length); -1 where it is missing.
        num_values: nulls and the elements of lists included; at least 0.
        uncompressed: bytes of its encoded pages; at least 0.
    """

    type: int
    num_values: int
    uncompressed: int


def column_chunks(path: Path) -> list[list[ColumnChunk]]:
    """Return the column chunks of each group of rows, in the order of the file.

    An entry that a damaged footer holds twice counts with its larger value.

    Raises:
        OSError: the file cannot be read or is no Parquet file; its footer is damaged, encrypted or
            larger than :data:`MAX_FOOTER`. pyarrow raises the same for a damaged file.
    """
    values = _Reader(_footer(path)).struct(_WANTED, 0)
    return [
        [_chunk(metadata) for column in group.get(_COLUMNS, ()) for metadata in _metadata(column)]
        for group in values.get(_GROUPS, ())
    ]


def most_values(
    groups: Sequence[Sequence[ColumnChunk]], columns: Collection[int] | None = None
) -> int:
    """Return the number of values of the longest column.

    Args:
        groups: the column chunks of each group of rows.
        columns: positions of the columns that are counted; None counts all.

    >>> most_values([[ColumnChunk(4, 5, 0), ColumnChunk(4, 9, 0)], [ColumnChunk(4, 6, 0)]])
    11
    """
    totals: Counter[int] = Counter()
    for group in groups:
        for place, chunk in enumerate(group):
            if columns is None or place in columns:
                totals[place] += chunk.num_values
    return max(totals.values(), default=0)


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < 12:
            raise OSError(f"{size} bytes are no Parquet file")
        file.seek(size - 8)
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != _MAGIC or length > size - 8:
            raise OSError("it does not end with the footer of a Parquet file")
        if length > MAX_FOOTER:
            raise OSError(f"its footer has {length:,} bytes; at most {MAX_FOOTER:,} are read")
        file.seek(size - 8 - length)
        return file.read(length)


def _metadata(column: dict[int, Any]) -> list[dict[int, Any]]:
    found: list[dict[int, Any]] = column.get(_METADATA, [])
    if len(found) != 1:
        raise OSError(f"a column chunk has {len(found)} descriptions; it must have one")
    return found


def _chunk(metadata: dict[int, Any]) -> ColumnChunk:
    chunk = ColumnChunk(
        metadata.get(_TYPE, -1), metadata.get(_NUM_VALUES, 0), metadata.get(_BYTES, 0)
    )
    if chunk.num_values < 0 or chunk.uncompressed < 0:
        raise OSError("a column chunk declares a negative size")
    return chunk


class _Reader:
    """Reads wanted fields of a struct and passes over the others; each step uses up a byte."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def struct(self, wanted: dict[int, Any] | None, depth: int) -> dict[int, Any]:
        """Return numbers by field; structs, alone or in a list, as a list."""
        if depth > _MAX_DEPTH:
            raise OSError("its footer is nested too deeply")
        found: dict[int, Any] = {}
        field = 0
        while (head := self._byte()) & 0x0F != _STOP:
            field = _int16(field + (head >> 4) if head >> 4 else self._number())
            kind = head & 0x0F
            if wanted is None or field not in wanted:
                self._skip(kind, depth)
            elif wanted[field] is None:
                self._check(kind in _INTEGERS, field)
                number = self._number()
                found[field] = max(found.get(field, number), number)
            else:
                self._check(kind in (_LIST, _STRUCT), field)
                count, kind = self._list_head() if kind == _LIST else (1, kind)
                self._check(kind == _STRUCT or not count, field)
                found.setdefault(field, [])
                found[field] += [self.struct(wanted[field], depth + 1) for _ in range(count)]
        return found

    def _skip(self, kind: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE):
            return
        if kind == _BYTE:
            self._forward(1)
        elif kind in _INTEGERS:
            self._varint()
        elif kind == _DOUBLE:
            self._forward(8)
        elif kind == _BINARY:
            self._forward(self._varint())
        elif kind in (_LIST, _SET):
            count, below = self._list_head()
            self._elements(count, (below,), depth)
        elif kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            self._elements(count, (kinds >> 4, kinds & 0x0F), depth)
        elif kind == _STRUCT:
            self.struct(None, depth + 1)
        else:
            raise OSError(f"its footer has an entry of the unknown type {kind}")

    def _elements(self, count: int, kinds: tuple[int, ...], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise OSError("its footer is nested too deeply")
        for _ in range(count):
            for kind in kinds:
                # A boolean is a byte of its own inside a list.
                self._skip(_BYTE if kind in (_TRUE, _FALSE) else kind, depth + 1)

    def _list_head(self) -> tuple[int, int]:
        """Return the number and the type of the elements that follow."""
        head = self._byte()
        return (self._varint() if head >> 4 == 15 else head >> 4), head & 0x0F

    def _check(self, fits: bool, field: int) -> None:
        if not fits:
            raise OSError(f"its footer has a field {field} of another type")

    def _forward(self, count: int) -> None:
        self._at += count
        if self._at > len(self._content):
            raise OSError("its footer is cut off")

    def _byte(self) -> int:
        self._forward(1)
        return self._content[self._at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise OSError("its footer has a number of more than 64 bits")
        return value | byte << shift

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def _int16(number: int) -> int:
    """Return a field number as the library below reads it, so that no other one looks like it."""
    return (number + 2**15) % 2**16 - 2**15
