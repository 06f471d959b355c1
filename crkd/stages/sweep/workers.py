"""Processes that make the runs of a sweep, one on each device at a time."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from crkd.core.lifeline import lifeline
from crkd.core.paths import CHECKOUT
from crkd.runs.console import format_duration
from crkd.stages.sweep.jobs import Job, estimate, unfinished
from crkd.training.interruption import graceful_stop

POLL_SECONDS: Final = 0.1
PROGRAM: Final = (
    "import sys; sys.argv[0] = 'crkd'; "
    "from crkd.core.lifeline import stop_with_parent; stop_with_parent(); "
    "from crkd.commands.main import main; sys.exit(main())"
)
"""A run that stops with its sweep; its record names the command ``crkd``."""

Status = Literal["complete", "failed", "stopped", "waiting"]


class Process(Protocol):
    """The part of :class:`subprocess.Popen` that is used."""

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> int:
        """Wait for its end."""


Start = Callable[[Sequence[str], Path], Process]
"""Starts ``crkd ARGUMENTS`` with a log file."""


def start_process(arguments: Sequence[str], log: Path, threads: int | None = None) -> Process:
    """Start ``crkd ARGUMENTS`` in a process and session of its own.

    A signal to this process or its terminal does not reach it. Once this process ends, also after
    ``kill -9``, it gets SIGINT, and saves its state if it trains.

    Args:
        arguments: arguments of ``crkd``.
        log: file to which its output is added.
        threads: number of threads of its computations on a CPU, unless the environment says one.
    """
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    if threads is not None:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"$ crkd {shlex.join(arguments)}\n".encode())
        output.flush()
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=lifeline(),
            env=environment,
            start_new_session=True,
        )


@dataclass(frozen=True)
class Running:
    """A job and its process."""

    job: Job
    process: Process
    began: float


class Workers:
    """Runs the jobs of a sweep, one on each device at a time.

    Args:
        jobs: the jobs, each after the one that it needs; complete ones are not run.
        devices: names of devices; one that is named twice takes two jobs at a time.
        start: starts a process.
        say: receives a line about every job.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        devices: Sequence[str],
        start: Start,
        say: Callable[[str], None],
    ) -> None:
        self._start, self._say = start, say
        self._devices = list(devices)
        self._jobs = list(jobs)
        self._running: dict[int, Running] = {}
        self.status: dict[Path, Status] = {job.out: "complete" for job in jobs}
        self.status |= {job.out: "waiting" for job in unfinished(jobs)}

    def work(self) -> bool:
        """Run all jobs; return whether a signal stopped the work.

        A job that fails does not stop the others, except those that need it. After SIGINT, SIGTERM
        or SIGHUP no job is started, and the running ones are asked to save their states.
        """
        with graceful_stop() as received:
            try:
                stopping = False
                while True:
                    self._collect(stopping=stopping)
                    if received and not stopping:
                        stopping = True
                        self._stop()
                    if not stopping:
                        self._fill()
                    if not self._running:
                        return stopping
                    time.sleep(POLL_SECONDS)
            finally:
                for entry in self._running.values():
                    entry.process.kill()
                    entry.process.wait()

    def _fill(self) -> None:
        """Start a job on every free device, as long as one is ready."""
        for place, device in enumerate(self._devices):
            job = None if place in self._running else self._next()
            if job is not None:
                job.prepare()
                process = self._start(job.command(device), job.log)
                self._running[place] = Running(job, process, time.monotonic())
                self._say(f"{job.name}: started on {device}")

    def _next(self) -> Job | None:
        active = {entry.job.out for entry in self._running.values()}
        for job in self._jobs:
            if self.status[job.out] != "waiting" or job.out in active:
                continue
            if job.needs is None or self.status[job.needs.out] == "complete":
                return job
        return None

    def _collect(self, *, stopping: bool) -> None:
        """Note the jobs that ended."""
        for place, entry in list(self._running.items()):
            code = entry.process.poll()
            if code is None:
                continue
            del self._running[place]
            job = entry.job
            if code == 0 and job.state() == "complete":
                self.status[job.out] = "complete"
                spent = format_duration(time.monotonic() - entry.began)
                self._say(f"{job.name}: finished after {spent}; {self._progress()}")
            elif stopping and code in _STOPPED:
                self.status[job.out] = "stopped"
                self._say(f"{job.name}: stopped; the same command continues it")
            else:
                self.status[job.out] = "failed"
                self._say(f"{job.name}: FAILED with exit code {code}; see {job.log}")

    def _progress(self) -> str:
        runs = [job for job in self._jobs if job.group is not None]
        done = [job for job in self._jobs if self.status[job.out] == "complete"]
        left = [job for job in self._jobs if self.status[job.out] == "waiting"]
        text = f"{sum(job in runs for job in done)} of {len(runs)} runs complete"
        seconds = estimate(left, done) if left else None
        if seconds is None:
            return text
        return f"{text}, about {format_duration(seconds / len(self._devices))} left"

    def _stop(self) -> None:
        if self._running:
            self._say(f"stopping; runs that save their state first: {len(self._running)}")
        for entry in self._running.values():
            entry.process.send_signal(signal.SIGINT)


_STOPPED: Final = (130, -signal.SIGINT)
"""Exit codes of a run that a signal ended, before or after it could save a state."""


def threads_for(devices: Sequence[str], environment: Mapping[str, str]) -> int | None:
    """Return the threads of each process, so that several on one machine do not compete."""
    if len(devices) < 2 or "OMP_NUM_THREADS" in environment:
        return None
    return max(1, (os.cpu_count() or 1) // len(devices))
