"""Layouts of ``persistent.cu``, which keeps a short copy of the plan."""

from __future__ import annotations

import math
from typing import NamedTuple

from crkd.ot.cuda.plans.device import Device


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
