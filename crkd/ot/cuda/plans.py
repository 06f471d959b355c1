"""How a problem of N samples and M classes is laid out on the device.

A plan follows from N, M and the kind of device alone, never from the number of problems: the
order of every sum, and with it every bit of a result, is the same whatever runs beside it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_REGISTERS = 64
"""Entries of the plan that one thread keeps in registers."""


LARGEST_M = 16384
"""Most classes that the streaming kernels take: 32 warps a row, 16 columns a lane."""


class Device(NamedTuple):
    """What of a device matters here.

    Attributes:
        architecture: compute capability, 10 * major + minor.
        shared_bytes: dynamic shared memory that one block may have.
    """

    architecture: int
    shared_bytes: int

    @property
    def has_clusters(self) -> bool:
        """Say whether blocks can form clusters that read each other's shared memory."""
        return self.architecture in (90, 100, 103)


class Resident(NamedTuple):
    """Layout of ``resident.cu``; its header explains the letters in parentheses.

    Attributes:
        warps: warps of a block (WARPS).
        lanes: lanes that share a row (LC), a power of two.
        columns: columns of a lane (TC).
        rows: row steps (TR).
        rows_in_registers: row steps kept in registers (TRR), the others in shared memory.
        cluster: blocks that share a problem (CLUSTER).
        blocks_per_sm: blocks that shall fit a multiprocessor.
    """

    warps: int
    lanes: int
    columns: int
    rows: int
    rows_in_registers: int
    cluster: int
    blocks_per_sm: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        vectors = (self.warps + 8) * self.columns * self.lanes
        entries = (self.rows - self.rows_in_registers) * self.columns * self.threads
        return 4 * (vectors + entries)

    @property
    def constants(self) -> dict[str, int]:
        """Compile-time constants of the kernel."""
        return {
            "WARPS": self.warps,
            "LC": self.lanes,
            "TC": self.columns,
            "TR": self.rows,
            "TRR": self.rows_in_registers,
            "CLUSTER": self.cluster,
            "BLOCKS_PER_SM": self.blocks_per_sm,
        }


class Streaming(NamedTuple):
    """Layout of ``streaming.cu``.

    Attributes:
        columns: columns of a lane (TC).
        team: warps of a row (TEAM).
        chunks: blocks of a problem.
        chunks_per_group: chunks that are added up before the groups are.
    """

    columns: int
    team: int
    chunks: int
    chunks_per_group: int

    @property
    def groups(self) -> int:
        """Groups of chunks."""
        return -(-self.chunks // self.chunks_per_group)

    @property
    def threads(self) -> int:
        """Threads of a block."""
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


def resident(n: int, m: int, device: Device) -> Resident | None:
    """Return the layout that keeps a whole problem on the chip, or None if none does."""
    for cluster in _cluster_sizes(n * m, device):
        for warps in (4, 8, 16):
            plan = resident_layout(n, m, cluster=cluster, warps=warps, lanes=_lanes(m))
            if plan is None or plan.shared_bytes > device.shared_bytes:
                continue
            if plan.rows * plan.columns <= 8 or warps == 16:
                return plan
    return None


def _cluster_sizes(entries: int, device: Device) -> list[int]:
    """Return the cluster sizes to try, the best first.

    About 2048 entries keep a block of 512 threads busy. More than 8 blocks a cluster are not
    granted everywhere.
    """
    if not device.has_clusters:
        return [1]
    best = next((size for size in (1, 2, 4) if entries <= 2048 * size), 8)
    return [size for size in (1, 2, 4, 8) if size >= best]


def _lanes(m: int) -> int:
    """Return how many lanes share a row: 32 unless fewer waste clearly less on the last one."""
    return min((32, 16, 8), key=lambda lanes: math.ceil(m / lanes) * lanes * (1 + 2.4 / lanes))


def resident_layout(
    n: int,
    m: int,
    *,
    cluster: int,
    warps: int,
    lanes: int = 32,
    blocks_per_sm: int = 1,
    registers: int = _REGISTERS,
) -> Resident | None:
    """Return the layout for a given cluster and block size, or None beyond 32 row steps."""
    columns = max(1, math.ceil(m / lanes))
    needed = max(1, math.ceil(math.ceil(n / cluster) / (warps * (32 // lanes))))
    # The kernel sums rows in batches that are powers of two.
    rows = next((size for size in (1, 2, 4, 8, 16, 24, 32) if size >= needed), None)
    if rows is None or columns > registers:
        return None
    kept = min(rows, registers // columns)
    return Resident(warps, lanes, columns, rows, kept, cluster, blocks_per_sm)


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
