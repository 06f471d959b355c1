"""Layouts of ``resident.cu``, which keeps a whole problem on the chip."""

from __future__ import annotations

import math
from typing import NamedTuple

from crkd.ot.cuda.plans.device import Device

_READ_BY_ALL = 16384
"""Bytes of class masses up to which every block of a cluster receives all of them."""


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


def resident(n: int, m: int, device: Device) -> Resident | None:
    """Return the layout that keeps a whole problem on the chip, or None if there is none."""
    for cluster in _cluster_sizes(n * m, device):
        fitting = [
            plan
            for warps in (4, 8, 16)
            if (plan := resident_layout(n, m, cluster=cluster, warps=warps, lanes=lanes_per_row(m)))
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


def lanes_per_row(m: int) -> int:
    """Return the number of lanes per row: 32, unless fewer leave clearly fewer lanes idle."""
    return min((32, 16, 8), key=lambda lanes: math.ceil(m / lanes) * lanes * (1 + 2.4 / lanes))


def resident_layout(
    n: int,
    m: int,
    *,
    cluster: int,
    warps: int,
    lanes: int = 32,
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
        registers = _room(warps, rows, columns)
    if columns > registers:
        return None
    kept = min(rows, registers // columns)
    split = 4 * cluster * columns * lanes > _READ_BY_ALL
    return Resident(warps, lanes, columns, rows, kept, cluster, 1, split)


def two_per_multiprocessor(plan: Resident, device: Device) -> Resident | None:
    """Return the layout of which two blocks fit a multiprocessor, or None if there is none.

    While the blocks of one problem wait for each other, those of another compute. The two layouts
    differ in the place of entries alone, in registers or in shared memory, so the bits of a result
    are the same.
    """
    kept = min(plan.rows, _room(2 * plan.warps, plan.rows, plan.columns) // plan.columns)
    dense = plan._replace(rows_in_registers=kept, blocks_per_sm=2)
    # A block can use all shared memory of a multiprocessor but 1 KiB, which each block needs.
    fits = 2 * (dense.shared_bytes + 1024) <= device.shared_bytes + 1024
    return dense if fits else None


def _room(warps: int, rows: int, columns: int) -> int:
    """Return how many entries a thread can keep in registers, found by compiling the kernel.

    A thread has 255 registers with up to 8 ``warps`` on a multiprocessor, 128 with 16, 64 with 32.
    Each row step needs one of them, and entries in shared memory and wide rows need some for loads.
    """
    if warps > 16:
        return 26 - max(0, rows - 8) if rows > 2 else 24
    if warps > 8:
        return 52 if rows * columns <= 52 else 40 if columns <= 32 else 0
    if columns > 32:
        return 64
    return 128 if rows * columns <= 128 or rows <= 8 else 104 - rows
