"""``torchrun`` from end to end: one of two processes dies, the job ends, and it is resumed."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch

from crkd.config.load import load_config
from crkd.gpu_checks.fresh_loops import pretraining_loop
from crkd.runs.folder import RunFolder
from crkd.stages.run_data import prepare
from crkd.training.checkpoint import states
from tests.support import forked
from tests.support.torchrun import torchrun

SETTINGS = [
    "pretrain.epochs=2",
    "pretrain.num_views=1",
    "model.hidden=16",
    "loop.log_every=1",
    "loop.checkpoint_every=1.0e-9",
]


def started(said: Path, *arguments: object) -> ForkServerProcess:
    """Start a job that prints into the file ``said``."""
    settings = [f"--set={setting}" for setting in SETTINGS]
    words = (*settings, *map(str, arguments))
    return forked.started(torchrun, said.parent, "pretrain", *words, output=said)


def logged(out: Path) -> list[dict[str, float]]:
    file = out / "log.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_two_processes_end_when_one_dies_and_are_resumed(tmp_path: Path) -> None:
    out, said = tmp_path / "run", tmp_path / "said.txt"
    job = started(said, "--out", out)
    while len(logged(out)) < 3 and job.is_alive():
        time.sleep(0.01)
    os.kill(int((tmp_path / "process1").read_text()), signal.SIGKILL)
    job.join(300)
    assert job.exitcode not in (0, None)
    # The launcher names the process that it finds dead first; process 0 ends when it misses 1.
    assert re.search(r"Signal 9 \(SIGKILL\)|process 0 .* ended: ", said.read_text())
    assert RunFolder(out).read_info().status != "complete"

    said.unlink()
    again = started(said, "--out", out, "--resume")
    again.join(300)
    assert again.exitcode == 0, said.read_text()
    assert said.read_text().count("known") >= 1
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
    command = [sys.executable, "-m", "crkd.commands.main", "evaluate", str(tmp_path)]
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "0"}
    with (tmp_path / "said.txt").open("wb") as said:
        job = forked.ForkedCommand(command, stdout=said, env=environment, start_new_session=True)
    assert job.wait(300) == 2
    refusal = "evaluate runs in one process; start it without torchrun"
    assert refusal in (tmp_path / "said.txt").read_text()
