"""``torchrun`` from end to end: one of two processes dies, the job ends, and it is resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from crkd.config.load import load_config
from crkd.gpu_checks.fresh_loops import pretraining_loop
from crkd.runs.folder import RunFolder
from crkd.stages.run_data import prepare
from crkd.training.checkpoint import states

SETTINGS = [
    "pretrain.epochs=4",
    "pretrain.num_views=1",
    "model.hidden=16",
    "loop.log_every=1",
    "loop.checkpoint_every=1.0e-9",
]
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


def started(*arguments: object) -> subprocess.Popen[str]:
    settings = [f"--set={setting}" for setting in SETTINGS]
    return subprocess.Popen(
        [sys.executable, *LAUNCHER, "tools/pretrain.py", *settings, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def process_of(job: subprocess.Popen[str], rank: int) -> int:
    """Return the number of a process of the job."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            # It ended meanwhile, or it is somebody else's.
            continue
        if parent == job.pid and f"RANK={rank}".encode() in environment:
            return int(folder.name)
    raise LookupError(f"no process {rank}")


def logged(out: Path) -> list[dict[str, float]]:
    file = out / "log.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_two_processes_end_when_one_dies_and_are_resumed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    job = started("--out", out)
    while len(logged(out)) < 3 and job.poll() is None:
        time.sleep(0.01)
    os.kill(process_of(job, 1), signal.SIGKILL)
    _, said = job.communicate(timeout=300)
    assert job.returncode != 0
    assert "Signal 9 (SIGKILL)" in said
    assert RunFolder(out).read_info().status != "complete"

    again = started("--out", out, "--resume")
    table, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert table.count("known") >= 1
    run = RunFolder(out)
    assert run.read_info().status == "complete"
    assert not states(out)
    run.read_model(run.read_info())
    lines = logged(out)
    steps = [int(line["step"]) for line in lines]
    assert sorted(set(steps)) == list(range(1, max(steps) + 1))
    # One writer: only steps after the last saved state were logged twice.
    assert len(steps) - len(set(steps)) <= 1

    config = load_config("digits", SETTINGS)
    loop = pretraining_loop(config, prepare(config, torch.device("cpu")), torch.device("cpu"))
    loop.step(next(loop.loader.batches(0, 1)), 0)
    first = loop.training_step.totals.take()
    assert lines[0]["loss"] == pytest.approx(first["loss"], rel=1e-5)


def test_two_processes_refuse_a_command_of_one(tmp_path: Path) -> None:
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "0"}
    done = subprocess.run(
        [sys.executable, "tools/evaluate.py", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "evaluate runs in one process; start it without torchrun" in done.stderr
