"""A run that is killed with -9 at any moment goes on, and ends bit-identical."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT
from tests.support.reliability import LONG, Record

KILLS, INSIDE = (200, 40) if LONG else (5, 1)


def test_killed_runs_end_bit_identical(tmp_path: Path, record: Record) -> None:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.kill_runs", tmp_path, str(KILLS), "0"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    record("kills", **counts)
    assert counts["kills"] == KILLS
    assert counts["inside_a_checkpoint_write"] >= INSIDE
    assert counts["bit_identical"] == counts["runs"] > 0
