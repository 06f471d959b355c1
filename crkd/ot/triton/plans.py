"""Tiles of a problem of N samples and M classes for the Triton kernels.

A plan depends only on N and M. The order of every sum, and so every bit of a result, does not
depend on the number of problems.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_TILE = 1024
"""Entries of a tile of four warps, 8 for each thread of a GPU with 32 threads a warp."""

WIDEST = 4096
"""Largest number of classes of which one tile holds a whole row."""

_MOST_CHUNKS = 256


class Plan(NamedTuple):
    """Tiles and programs of one solve.

    Attributes:
        rows: rows of a tile, a power of two.
        columns: columns of a tile, a power of two.
        warps: warps of a program.
        wide: whether a row needs several tiles.
        chunks: programs that share the rows of a problem, at most 256.
        rows_per_chunk: rows of a program.
    """

    rows: int
    columns: int
    warps: int
    wide: bool
    chunks: int
    rows_per_chunk: int

    @property
    def compiled(self) -> Plan:
        """One plan for all that have the same machine code, since chunks are not constants."""
        return self._replace(chunks=self.chunk_rows, rows_per_chunk=self.rows)

    @property
    def chunk_rows(self) -> int:
        """Rows of the tile in which the sums of all chunks are added, a power of two."""
        return _power_of_two(self.chunks)

    @property
    def chunk_columns(self) -> int:
        """Columns of that tile, a power of two."""
        return max(16, min(256, _TILE // self.chunk_rows))


def plan(n: int, m: int) -> Plan:
    """Return the plan for N samples and M classes, each at least 1."""
    wide = m > WIDEST
    columns = _TILE if wide else max(16, _power_of_two(m))
    rows = max(1, _TILE // columns)
    tiles = math.ceil(n / rows)
    # Every chunk writes a row of sums, which costs as much as reading a row of scores. Few tiles
    # are spread over many programs all the same, because waiting for them would cost more.
    chunks = min(tiles, max(16, tiles // 8), _MOST_CHUNKS)
    rows_per_chunk = rows * math.ceil(tiles / chunks)
    return Plan(
        rows,
        columns,
        max(4, columns // 256),
        wide,
        math.ceil(n / rows_per_chunk),
        rows_per_chunk,
    )


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()
