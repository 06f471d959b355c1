"""A run that is killed with -9 at any moment can be resumed and ends bit-identical."""

from __future__ import annotations

from pathlib import Path

from tests.support.forked import in_fork
from tests.support.kill_runs import killed_runs
from tests.support.reliability import LONG, Record

KILLS, INSIDE = (200, 40) if LONG else (5, 1)


def test_killed_runs_end_bit_identical(tmp_path: Path, record: Record) -> None:
    counts = in_fork(killed_runs, tmp_path, KILLS, 0)
    record("kills", **counts)
    assert counts["kills"] == KILLS
    assert counts["inside_a_checkpoint_write"] >= INSIDE
    assert counts["bit_identical"] == counts["runs"] > 0
