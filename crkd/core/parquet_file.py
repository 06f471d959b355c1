"""Parquet files with any path, and how many of their rows are decoded at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

PIECE_BYTES: Final = 16 << 20
"""Bytes that a piece has by the sizes that the file declares."""
PIECE_ROWS: Final = 64
"""Maximum number of rows of a piece. Equal values may take more than the file declares."""
_BUFFER: Final = 1 << 20


def native_file(path: Path, mode: str = "rb") -> Any:
    """Open a file that pyarrow reads or writes without Python.

    Args:
        path: the file. pyarrow itself refuses a path whose bytes are not UTF-8.
        mode: "rb" or "wb".

    Returns:
        A ``pyarrow.OSFile``, which is closed by ``with`` or with its last reference.

    Raises:
        OSError: the file cannot be opened.
    """
    import pyarrow

    return pyarrow.OSFile(os.fsencode(path), mode)


def mapped_file(path: Path) -> Any:
    """Open a file as :func:`native_file`, for reading; the system holds its pages in memory."""
    import pyarrow

    return pyarrow.memory_map(os.fsencode(path))


def in_pieces(source: Any, metadata: Any = None) -> Any:
    """Return a Parquet file whose ``iter_batches`` holds little more than one batch in memory.

    Args:
        source: the file, open for reading; it stays open.
        metadata: its ``pyarrow.parquet.FileMetaData``; None reads them.

    Returns:
        A ``pyarrow.parquet.ParquetFile``.

    Raises:
        pyarrow.ArrowException: the file is damaged.
        OSError: the file is damaged or cannot be read.
    """
    import pyarrow.parquet

    # Without a buffer a whole column of a group of rows is read at once.
    return pyarrow.parquet.ParquetFile(
        source, metadata=metadata, buffer_size=_BUFFER, pre_buffer=False
    )


def rows_of_a_piece(num_bytes: int, num_rows: int) -> int:
    """Return how many rows are decoded at once: pyarrow decodes 2 GiB of a nested column at most.

    Args:
        num_bytes: declared size of all rows.
        num_rows: number of all rows.

    >>> rows_of_a_piece(1000 * 1024, 1000), rows_of_a_piece(1000 << 20, 1000)
    (64, 16)
    >>> rows_of_a_piece(1 << 40, 2)
    1
    """
    row = max(num_bytes // max(num_rows, 1), 1)
    return min(max(PIECE_BYTES // row, 1), PIECE_ROWS)
