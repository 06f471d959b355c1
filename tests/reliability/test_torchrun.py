"""Jobs of four processes, under one agent and under two: a killed worker ends the job in time.

The job is resumed, and its weights are those of an uninterrupted job of the same shape. Long form.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from crkd.runs.folder import RunFolder
from tests.support import ROOT
from tests.support.reliability import LONG, Record
from tests.support.small_runs import same

pytestmark = pytest.mark.skipif(not LONG, reason="long form only")

LIMIT = 120.0
"""Seconds from the death of a worker to the end of every agent."""
SHAPES = {"one agent": (1, 4), "two agents": (2, 2)}
SETTINGS = (
    *("pretrain.epochs=2", "pretrain.num_views=1", "model.hidden=16"),
    *("loop.log_every=1", "loop.checkpoint_every=1.0e-9", "evaluation.kmeans_restarts=1"),
)


def logged(out: Path) -> int:
    """Return the number of the last logged step."""
    file = out / "log.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except ValueError:
        return 0


def last_step(out: Path, straight: Path) -> bool:
    return logged(out) >= logged(straight)


PHASES: dict[str, Callable[[Path, Path], bool]] = {
    "before the first step": lambda out, _: (out / "run.json").exists(),
    "training": lambda out, _: logged(out) >= 5,
    "evaluation": last_step,
}


class Job:
    """The agents of one job and their output."""

    def __init__(self, place: Path, shape: str, *arguments: object) -> None:
        agents, workers = SHAPES[shape]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
        meeting += ["--rdzv-id", str(port), "--nnodes", str(agents)]
        settings = [f"--set={setting}" for setting in SETTINGS]
        command = [sys.executable, "-m", "torch.distributed.run", *meeting]
        command += ["--nproc-per-node", str(workers), str(ROOT / "tools" / "pretrain.py")]
        self.said = place / "said.txt"
        with self.said.open("wb") as file:
            self.agents = [
                subprocess.Popen(
                    [*command, "--device=cpu", *settings, *map(str, arguments)],
                    stdout=file,
                    stderr=file,
                    env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
                    start_new_session=True,
                )
                for _ in range(agents)
            ]

    def runs(self) -> bool:
        return any(agent.poll() is None for agent in self.agents)

    def worker(self, rank: int) -> int | None:
        """Return the process id of a worker; None before it has begun."""
        agents = {agent.pid for agent in self.agents}
        for folder in Path("/proc").iterdir():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                variables = (folder / "environ").read_bytes().split(b"\0")
            except (OSError, IndexError, ValueError):
                continue
            if parent in agents and f"RANK={rank}".encode() in variables:
                return int(folder.name)
        return None

    def wait(self, seconds: float) -> list[int]:
        """Return the exit codes of the agents."""
        end = time.monotonic() + seconds
        return [agent.wait(max(0.1, end - time.monotonic())) for agent in self.agents]

    def stop(self) -> None:
        for agent in self.agents:
            if agent.poll() is None:
                os.killpg(agent.pid, signal.SIGKILL)
                agent.wait()


def weights(out: Path) -> dict[str, torch.Tensor]:
    run = RunFolder(out)
    assert run.read_info().status == "complete"
    return run.read_model(run.read_info())[0]


def finished(place: Path, shape: str, *arguments: object) -> None:
    job = Job(place, shape, *arguments)
    try:
        assert job.wait(600) == [0] * len(job.agents), job.said.read_text()[-3000:]
    finally:
        job.stop()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_killed_worker_ends_the_job_which_is_resumed(
    tmp_path: Path, shape: str, record: Record
) -> None:
    straight = tmp_path / "straight"
    finished(tmp_path, shape, "--out", straight)
    expected, slowest, kills = weights(straight), 0.0, 0
    for phase, reached in PHASES.items():
        for rank in (0, 3):
            out = tmp_path / f"{phase}, {rank}"
            job = Job(tmp_path, shape, "--out", out)
            try:
                while job.runs() and not (reached(out, straight) and job.worker(rank)):
                    time.sleep(0.005)
                worker = job.worker(rank)
                assert worker is not None, job.said.read_text()[-3000:]
                os.kill(worker, signal.SIGKILL)
                began = time.monotonic()
                codes = job.wait(LIMIT)
                slowest = max(slowest, time.monotonic() - began)
            finally:
                job.stop()
            assert 0 not in codes, (phase, rank, job.said.read_text()[-3000:])
            kills += 1
            if RunFolder(out).read_info().status != "complete":
                finished(tmp_path, shape, "--out", out, "--resume")
            assert same(weights(out), expected), (phase, rank)
    record(
        f"killed workers, {shape}",
        processes=4,
        kills=kills,
        identical=kills,
        slowest_end_seconds=round(slowest, 1),
    )
