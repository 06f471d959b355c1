"""The processes of a sweep."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from crkd.runs.folder import RunFolder
from crkd.runs.lock import LOCK
from tests.support import ROOT
from tests.support.small_runs import SMALL

STARTS_A_RUN = """
import sys, time
from pathlib import Path
from crkd.stages.sweep.workers import start_process
start_process(sys.argv[2:], Path(sys.argv[1]), threads=1)
time.sleep(600)
"""


def test_a_run_saves_its_state_when_its_sweep_is_killed(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "logs" / "run.log"
    settings = [f"--set={setting}" for setting in (*SMALL, "pretrain.epochs=100000")]
    words = ["pretrain", "--dataset=digits", "--device=cpu", f"--out={run}", *settings]
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_A_RUN, str(log), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        wait_for(log, "loss")
        child = int((run / LOCK).read_text().split()[0])
    finally:
        parent.kill()
        parent.wait()
    try:
        wait_for(log, "the state is saved")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    info = RunFolder.open(run).read_info()
    assert info.status == "interrupted"
    assert str(info.provenance["command"]).startswith("crkd pretrain --dataset")


def wait_for(log: Path, text: str) -> None:
    """Wait until a log contains a text; the limit of pytest ends a vain wait."""
    while not (log.is_file() and text in log.read_text()):
        time.sleep(0.05)
