"""Runner of a fixed list of GPU measurements, in calls of a few minutes that continue each other.

A GPU is often available for half an hour in commands of a few minutes each. Every step of the list
is a command of this program in its own process with its own time limit. A state folder stores the
finished steps, and an interrupted training run continues from its checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from crkd.core.device import device_name, pick_device
from crkd.core.errors import InputError
from crkd.gpu_checks.day_steps import Place, Step, missing_data, steps
from crkd.runs.atomic_files import read_json, write_json
from crkd.runs.provenance import git_commit, versions

STATE: Final = "day.json"
PROGRAM: Final = (sys.executable, "-m", "crkd.commands.main")

GRACE: Final = 25.0
"""Seconds between asking a step to stop and killing it: one training step and one checkpoint."""

MARGIN: Final = 10.0
"""Seconds reserved at the end of a call for copying the results."""

ATTEMPTS: Final = 2
"""Number of failures of a step after which the list continues without it."""

Status = Literal["open", "cut", "done", "red", "failed"]


@dataclass
class Outcome:
    """State of a step.

    Attributes:
        name: name of the step.
        status: "open"; "cut" for an interrupted step that can continue; "done"; "red" for a step
            that finished with a failed check, a missing row or a result outside its tolerance;
            "failed" for a step that ended without its result.
        attempts: number of starts.
        failures: number of attempts that ended without a result.
        seconds: wall time of all attempts.
        text: end of the output of the last attempt.
    """

    name: str
    status: Status = "open"
    attempts: int = 0
    failures: int = 0
    seconds: float = 0.0
    text: str = ""

    @property
    def finished(self) -> bool:
        """Whether the step needs no further attempt."""
        return self.status in ("done", "red") or self.failures >= ATTEMPTS


class Day:
    """Runs the steps of the list.

    Args:
        place: folders and device.
        list_of: returns the list, given the names of failed checks.
        say: receives a line about every step.
    """

    def __init__(
        self,
        place: Place,
        list_of: Callable[[Place, Sequence[str]], list[Step]] = steps,
        say: Callable[[str], None] = print,
    ) -> None:
        self.place, self._list_of, self._say = place, list_of, say
        self._outcomes = self._read()
        self._without_data = False

    def outcomes(self) -> list[Outcome]:
        """Return the state of each step, in the order of the list."""
        return [self._outcome(step) for step in self._steps()]

    def work(self, seconds: float) -> bool:
        """Run unfinished steps for ``seconds``; return whether all are finished."""
        deadline = time.monotonic() + seconds - MARGIN
        for folder in (self.place.state, self.place.out):
            folder.mkdir(parents=True, exist_ok=True)
        missing = missing_data(self.place)
        if missing is not None:
            self._say(f"steps that need CIFAR-100 wait: {missing}")
        self._without_data = missing is not None
        tried: set[str] = set()
        while (step := self._next(deadline - time.monotonic(), tried)) is not None:
            tried.add(step.name)
            self._do(step, min(step.seconds, deadline - time.monotonic()))
            self._collect()
        self._collect()
        return all(outcome.finished for outcome in self.outcomes())

    def _next(self, left: float, tried: set[str]) -> Step | None:
        """Return the first unfinished step that fits the time left or is resumable."""
        whole_slice = not tried
        for step in self._steps():
            if step.name in tried or self._outcome(step).finished:
                continue
            if step.needs_data and self._without_data:
                continue
            enough = 2 * GRACE if step.resumable else step.seconds
            # A step longer than a whole call would never start.
            if left >= enough or (whole_slice and left >= 2 * GRACE):
                return step
        return None

    def _do(self, step: Step, limit: float) -> None:
        outcome = self._outcome(step)
        self._say(f"{step.name}: starts, at most {limit:.0f} s")
        outcome.attempts += 1
        log = self.place.state / f"{step.name.replace(' ', '-').replace(',', '')}.log"
        before = self._written(step)
        began = time.monotonic()
        code = run_limited(step.arguments, limit, log, self._environment())
        spent = time.monotonic() - began
        outcome.seconds = round(outcome.seconds + spent, 1)
        outcome.text = "\n".join(log.read_text(errors="replace").splitlines()[-12:])[-1500:]
        outcome.status = self._status(step, code, is_new=self._written(step) != before)
        if outcome.status == "failed":
            outcome.failures += 1
        self._say(f"{outcome.text}\n{step.name}: {outcome.status} after {spent:.0f} s")
        self._write()

    def _written(self, step: Step) -> int | None:
        """Return when the result of a step was written, in nanoseconds; None without one."""
        path = self.place.state / step.result
        return path.stat().st_mtime_ns if path.is_file() else None

    def _status(self, step: Step, code: int | None, *, is_new: bool) -> Status:
        """Return the status of a step that ended; ``is_new``: it wrote its result."""
        if code == 0 and self._written(step) is not None:
            return "done"
        # Seeds share a result file, and a crash has the exit code of a red result.
        if code in step.red_codes and is_new:
            return "red"
        return "cut" if step.resumable and code is None else "failed"

    def _environment(self) -> dict[str, str]:
        """Return the environment of a step; compiled kernels are kept between calls."""
        caches = {
            "CRKD_CACHE": "kernels",
            "TORCHINDUCTOR_CACHE_DIR": "inductor",
            "TRITON_CACHE_DIR": "triton",
        }
        kept = {name: str(self.place.state / folder) for name, folder in caches.items()}
        named = {} if self.place.data_root is None else {"CRKD_DATA": self.place.data_root}
        return {**kept, **os.environ, **named, "PYTHONUNBUFFERED": "1"}

    def _steps(self) -> list[Step]:
        return self._list_of(self.place, failed_checks(self.place.state / "checks.json"))

    def _outcome(self, step: Step) -> Outcome:
        return self._outcomes.setdefault(step.name, Outcome(step.name))

    def _read(self) -> dict[str, Outcome]:
        path = self.place.state / STATE
        if not path.is_file():
            return {}
        try:
            return {entry["name"]: Outcome(**entry) for entry in read_json(path)["steps"]}
        except (TypeError, KeyError):
            raise InputError(
                f"{path} is damaged; delete it to start the list again, finished runs are kept"
            ) from None

    def _write(self) -> None:
        day = {
            "commit": git_commit(),
            "device": device_name(pick_device(self.place.device)),
            "versions": versions(),
            "steps": [asdict(outcome) for outcome in self.outcomes()],
            **{step.name: read_json(path) for step, path in self._results() if not step.copied_as},
        }
        write_json(self.place.state / STATE, day)

    def _collect(self) -> None:
        """Copy the results and the state of the list into the results folder."""
        self._write()
        shutil.copy(self.place.state / STATE, self.place.out / STATE)
        for step, path in self._results():
            if step.copied_as:
                shutil.copy(path, self.place.out / step.copied_as)

    def _results(self) -> list[tuple[Step, Path]]:
        """Return the steps with a result file, and the file of each."""
        paths = [(step, self.place.state / step.result) for step in self._steps()]
        return [(step, path) for step, path in paths if path.is_file()]


def failed_checks(path: Path) -> list[str]:
    """Return the names of the failed checks in the file of ``check-gpu --json``, if it exists."""
    if not path.is_file():
        return []
    checks: list[dict[str, Any]] = read_json(path)
    return [check["name"] for check in checks if not check["passed"]]


def run_limited(
    arguments: Sequence[str], seconds: float, log: Path, environment: Mapping[str, str]
) -> int | None:
    """Run ``crkd ARGUMENTS`` for a limited time and return its exit code.

    The process is asked to stop shortly before the limit, as by Ctrl-C. At the limit it is killed
    with all processes that it started.

    Args:
        arguments: arguments of ``crkd``.
        seconds: the limit.
        log: file that receives the output.
        environment: environment of the process.

    Returns:
        The exit code, or None if the limit ended the process, by a stop or by a kill.
    """
    command = [*PROGRAM, *arguments]
    end = time.monotonic() + seconds
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            return _watched(process, end)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _watched(process: subprocess.Popen[bytes], end: float) -> int | None:
    try:
        return process.wait(max(0.0, end - GRACE - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        # A process that was about to finish may still do so.
        return 0 if process.wait(max(0.0, end - time.monotonic())) == 0 else None
    return None
