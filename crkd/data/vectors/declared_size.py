"""Limits on the memory that a file may take, checked by the sizes that it declares."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from crkd.core.errors import InputError
from crkd.core.parquet_footer import ColumnChunk
from crkd.data.storage.free_memory import free_host_bytes

MAX_RATIO: Final = 200
"""Most bytes of values for each byte of the file. Vectors and ids hardly compress."""
SMALL: Final = 256 << 20
"""Bytes of values up to which :data:`MAX_RATIO` does not apply."""
OBJECT_BYTES: Final = 64
"""Bytes of a text or number of a label or id in Python."""
# Bytes of a value by the number of its physical type: boolean, int32, int64, int96, float, double.
_WIDTHS: Final = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8}


def check_declared_size(file: Path, needed: int, held: int | None = None) -> None:
    """Refuse a file whose values would fill the memory, before they are read.

    Args:
        file: the file.
        needed: bytes of memory that its values take, as its header declares.
        held: bytes of them that are in memory at once; None: all.

    Raises:
        InputError: they are more than the free memory, or far more than the file can hold.
    """
    size = file.stat().st_size
    if needed > SMALL and needed > MAX_RATIO * size:
        raise InputError(
            f"the file {str(file)!r} of {format_bytes(size)} declares {format_bytes(needed)} of "
            f"values, more than {MAX_RATIO} times its size; write it again, or divide it"
        )
    check_memory(needed if held is None else held, f"the file {str(file)!r}")


class DecodedBytes:
    """Counts the bytes of a file while they are decoded, and refuses too many of them.

    A file declares equal values of a dictionary once, so it may hold far more than it declares.

    Args:
        file: the file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._limit = min(max(SMALL, MAX_RATIO * file.stat().st_size), free_host_bytes())
        self._count = 0

    def add(self, count: int) -> None:
        """Count further bytes.

        Raises:
            InputError: all together are more than the memory that was free at first, or far more
                than the size of the file.
        """
        self._count += count
        if self._count > self._limit:
            raise InputError(
                f"the file {str(self._file)!r} of {format_bytes(self._file.stat().st_size)} holds "
                f"more than {format_bytes(self._limit)} of values, because equal ones are stored "
                "once; divide it"
            )


def check_memory(needed: int, what: str, remedy: str = "give fewer rows") -> None:
    """Refuse work that needs more memory than is free, before it begins.

    Args:
        needed: bytes.
        what: needs them, for the message.
        remedy: for the message.

    Raises:
        InputError: they are more than the free memory.
    """
    free = free_host_bytes()
    if needed > free:
        raise InputError(
            f"{what} needs {format_bytes(needed)} of memory, and {format_bytes(free)} are free; "
            f"{remedy}, or use a machine with more memory"
        )


def parquet_bytes(
    groups: Sequence[Sequence[ColumnChunk]], columns: Collection[int] | None = None
) -> int:
    """Return the memory in bytes that the values of a Parquet file take when they are decoded.

    Args:
        groups: the column chunks of each group of rows.
        columns: positions of the columns that are counted; None counts all.

    >>> group = [ColumnChunk(type=4, num_values=1000, uncompressed=90), ColumnChunk(6, 10, 700)]
    >>> parquet_bytes([group]), parquet_bytes([group, group], {1})
    (4700, 1400)
    """
    chunks = [
        chunk
        for group in groups
        for place, chunk in enumerate(group)
        if columns is None or place in columns
    ]
    return sum(
        max(chunk.num_values * _WIDTHS.get(chunk.type, OBJECT_BYTES), chunk.uncompressed)
        for chunk in chunks
    )


def format_bytes(size: int) -> str:
    """Return a number of bytes in words.

    >>> format_bytes(100), format_bytes(3 << 29), format_bytes(16 * 10**12), format_bytes(10**40)
    ('100 bytes', '1.5 GiB', '14.6 TiB', 'more than 1,024 TiB')
    """
    if size < 1024:
        return f"{size} bytes"
    for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1):
        if size < 1024 ** (power + 1):
            return f"{size / 1024**power:,.1f} {unit}"
    return "more than 1,024 TiB"
