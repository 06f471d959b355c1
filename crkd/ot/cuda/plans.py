"""Layouts of a problem of N samples and M classes on the device.

A layout depends only on N, M and the kind of device, never on the number of problems. The order of
every sum, and so every bit of a result, does not depend on the other problems.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_READ_BY_ALL = 16384
"""Bytes of class masses up to which every block of a cluster receives all of them."""

LARGEST_M = 16384
"""Largest number of classes of the streaming kernels: 32 warps per row, 16 columns per lane."""


class Device(NamedTuple):
    """Properties of a device that determine the layout.

    Attributes:
        architecture: compute capability, 10 * major + minor.
        shared_bytes: maximum dynamic shared memory of one block.
        largest_cluster: maximum number of blocks of a cluster; 1 without clusters.
        multiprocessors: number of multiprocessors.
    """

    architecture: int
    shared_bytes: int
    largest_cluster: int
    multiprocessors: int


class Resident(NamedTuple):
    """Layout of ``resident.cu``, whose header explains the letters in parentheses.

    Attributes:
        warps: warps of a block (WARPS).
        lanes: lanes that share a row (LC), a power of two.
        columns: columns of a lane (TC).
        rows: row steps (TR).
        rows_in_registers: row steps kept in registers (TRR), the others in shared memory.
        cluster: blocks that share a problem (CLUSTER).
        blocks_per_sm: blocks that must fit a multiprocessor.
        split: whether each block sums some of the classes for all blocks (SPLIT).
    """

    warps: int
    lanes: int
    columns: int
    rows: int
    rows_in_registers: int
    cluster: int
    blocks_per_sm: int
    split: bool

    @property
    def threads(self) -> int:
        """Number of threads of a block."""
        return 32 * self.warps

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        classes = self.columns * self.lanes
        vectors = (self.warps + (8 if self.cluster > 1 else 6)) * classes
        weights = self.rows * self.warps * (32 // self.lanes)
        entries = (self.rows - self.rows_in_registers) * self.columns * self.threads
        return 4 * (vectors + weights + self._inbox(classes) + entries)

    def _inbox(self, classes: int) -> int:
        """Return the words of what other blocks send: three slots and four 8-byte mailboxes."""
        if self.cluster == 1:
            return 0
        share = 4 * math.ceil(classes / (4 * self.cluster)) if self.split else classes
        return 3 * self.cluster * share + 8

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
            "SPLIT": int(self.split),
            "BLOCKS_PER_SM": self.blocks_per_sm,
        }


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


class Persistent(NamedTuple):
    """Layout of ``persistent.cu``.

    Attributes:
        quads: groups of eight columns of a lane (QUADS).
        team: warps of a row (TEAM).
        warps: warps of a block (WARPS).
        kept: rows of a team in registers (KEPT).
        shared: rows of a team in shared memory (SHARED).
        stored: rows of a team in global memory.
        blocks: blocks of a problem (BLOCKS).
        cluster: blocks that add up class masses first (CLUSTER).
        together: number of problems that fit the device at once.
    """

    quads: int
    team: int
    warps: int
    kept: int
    shared: int
    stored: int
    blocks: int
    cluster: int
    together: int

    @property
    def threads(self) -> int:
        """Number of threads of a block."""
        return 32 * self.warps

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        padded = 8 * self.quads * self.team * 32
        exchange = 4 * padded + 16 if self.cluster > 1 else 0
        return (
            16 * self.shared * self.quads * self.threads
            + 4 * (2 * padded + max(padded, self.threads))
            + 32 * self.warps
            + exchange
        )

    @property
    def sums(self) -> int:
        """Rows of M sums in global memory for one problem: two of each cluster, or one a block."""
        return 2 * self.blocks // self.cluster if self.cluster > 1 else self.blocks

    @property
    def stored_bytes(self) -> int:
        """Global memory of a block."""
        return 16 * self.stored * self.quads * self.threads

    @property
    def constants(self) -> dict[str, int]:
        """Compile-time constants of the kernel."""
        return {
            "WARPS": self.warps,
            "TEAM": self.team,
            "QUADS": self.quads,
            "KEPT": self.kept,
            "SHARED": self.shared,
            "BLOCKS": self.blocks,
            "CLUSTER": self.cluster,
        }


def resident(n: int, m: int, device: Device) -> Resident | None:
    """Return the layout that keeps a whole problem on the chip, or None if there is none."""
    for cluster in _cluster_sizes(n * m, device):
        fitting = [
            plan
            for warps in (4, 8, 16)
            if (plan := resident_layout(n, m, cluster=cluster, warps=warps, lanes=_lanes(m)))
            and plan.shared_bytes <= device.shared_bytes
        ]
        for plan in fitting:
            if plan.rows * plan.columns <= 8:
                return plan
        if fitting:
            # 8 warps have more registers for entries than 16, which hide more latency.
            return max(fitting, key=lambda plan: (plan.rows_in_registers / plan.rows, plan.warps))
    return None


def _cluster_sizes(entries: int, device: Device) -> list[int]:
    """Return the cluster sizes to try, the best first.

    About 2048 entries keep a block of 512 threads busy. Clusters of 8 blocks work on every device
    and exchange faster than 16. If 8 cannot hold the problem in registers, 16 are faster.
    """
    enough = ((1, 2048), (2, 4096), (4, 8192), (8, 8 * 32768))
    best = next((size for size, most in enough if entries <= most), 16)
    limit = device.largest_cluster
    return [size for size in (1, 2, 4, 8, 16) if min(best, limit) <= size <= limit]


def _lanes(m: int) -> int:
    """Return the number of lanes per row: 32, unless fewer leave clearly fewer lanes idle."""
    return min((32, 16, 8), key=lambda lanes: math.ceil(m / lanes) * lanes * (1 + 2.4 / lanes))


def resident_layout(
    n: int,
    m: int,
    *,
    cluster: int,
    warps: int,
    lanes: int = 32,
    blocks_per_sm: int = 1,
    registers: int | None = None,
) -> Resident | None:
    """Return the layout for a given cluster and block size, or None beyond 32 row steps.

    ``registers`` is the number of entries that a thread keeps in registers, by default as many as
    the compiled code has room for.
    """
    columns = max(1, math.ceil(m / lanes))
    needed = max(1, math.ceil(math.ceil(n / cluster) / (warps * (32 // lanes))))
    # The kernel sums rows in batches that are powers of two.
    rows = next((size for size in (1, 2, 4, 8, 16, 24, 32) if size >= needed), None)
    if rows is None:
        return None
    if registers is None:
        registers = _room(warps * blocks_per_sm, rows, columns)
    if columns > registers:
        return None
    kept = min(rows, registers // columns)
    split = 4 * cluster * columns * lanes > _READ_BY_ALL
    return Resident(warps, lanes, columns, rows, kept, cluster, blocks_per_sm, split)


def _room(warps: int, rows: int, columns: int) -> int:
    """Return how many entries a thread can keep in registers, found by compiling the kernel.

    A thread has 255 registers with up to 8 ``warps`` on a multiprocessor, 128 with 16. Each row
    step needs one of them, and entries in shared memory and wide rows need some for loads.
    """
    if warps > 8:
        return 52 if rows * columns <= 52 else 40 if columns <= 32 else 0
    if columns > 32:
        return 64
    return 128 if rows * columns <= 128 or rows <= 8 else 104 - rows


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


def persistent(n: int, m: int, device: Device) -> Persistent | None:
    """Return the layout of the persistent kernel, or None if the device or M does not allow it."""
    blocks = 64
    if m > 16 * 512 or device.multiprocessors < blocks:
        return None
    cluster = 8 if device.largest_cluster >= 8 else 1
    plan = persistent_layout(n, m, device, blocks=blocks, cluster=cluster)
    return plan if plan.shared_bytes <= device.shared_bytes else None


def persistent_layout(
    n: int,
    m: int,
    device: Device,
    *,
    blocks: int,
    cluster: int,
    warps: int = 16,
    kept: int = 4,
) -> Persistent:
    """Return the layout for a given number of blocks; M is at most 512 * ``warps``."""
    quads = 1 if m <= 256 else 2
    team = next(size for size in (1, 2, 4, 8, 16) if m <= 256 * quads * size)
    teams = warps // team
    rows = 4 * math.ceil(math.ceil(n / blocks) / (4 * teams))
    together = device.multiprocessors // blocks
    plan = Persistent(quads, team, warps, kept, 0, 0, blocks, cluster, together)
    room = (device.shared_bytes - plan.shared_bytes) // (16 * quads * plan.threads)
    shared = max(0, min(rows - kept, room // 4 * 4))
    return plan._replace(shared=shared, stored=max(0, rows - kept - shared))
