"""Layouts of ``streaming.cu``, which reads the scores in every iteration."""

from __future__ import annotations

import math
from typing import NamedTuple

LARGEST_M = 16384
"""Largest number of classes of the streaming kernels: 32 warps per row, 16 columns per lane."""


class Streaming(NamedTuple):
    """Layout of ``streaming.cu``.

    Attributes:
        columns: columns of a lane (TC).
        team: warps of a row (TEAM).
        chunks: blocks of a problem.
        chunks_per_group: number of chunks that are summed before the groups are.
    """

    columns: int
    team: int
    chunks: int
    chunks_per_group: int

    @property
    def groups(self) -> int:
        """Number of groups of chunks."""
        return -(-self.chunks // self.chunks_per_group)

    @property
    def threads(self) -> int:
        """Number of threads of a block."""
        return 32 * max(8, self.team)

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        warps = max(8, self.team)
        teams = warps // self.team
        sums = 2 * teams * self.columns * self.team * 32 if teams > 1 else 0
        return 4 * (4 * warps + sums)

    def constants(self, step: int) -> dict[str, int]:
        """Compile-time constants of the kernel for one kind of launch (0 to 3)."""
        return {"STEP": step, "TC": self.columns, "TEAM": self.team}


def streaming(n: int, m: int) -> Streaming | None:
    """Return the layout of the streaming kernels, or None above ``LARGEST_M`` classes."""
    for team in (1, 2, 4, 8, 16, 32):
        if m <= team * 32 * 16:
            break
    else:
        return None
    columns = next(c for c in (1, 2, 4, 8, 16) if m <= team * 32 * c)
    rows_at_once = (8 // team or 1) * (4 if columns <= 4 else 2 if columns <= 8 else 1)
    chunks = max(1, min(128, math.ceil(n * m / 2048), math.ceil(n / rows_at_once)))
    return Streaming(columns, team, chunks, max(1, math.isqrt(chunks - 1) + 1))
