"""Jobs in a watched child process; if one hangs or crashes, the others still run.

Python cannot interrupt a kernel that hangs, but it can kill a process. The child process sends a
line of JSON at the start of each job and for each of its values.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from typing import Any, Final, NamedTuple

from crkd.core.errors import InputError
from crkd.core.lifeline import lifeline, when_parent_ends

START: Final = "start"
"""The job name in reports about errors before the first job."""

_ENDING: Final = 10.0
"""Seconds to wait for a process to end, by itself or after it was killed."""

_LOOK: Final = 0.2
"""Seconds between two checks of whether the process is alive."""

_PROGRAM: Final = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order.pop('path'); "
    "from crkd.core.watched import serve; serve(**order)"
)
Message = dict[str, Any]


class Job(NamedTuple):
    """One of several jobs.

    Attributes:
        name: name in reports. Jobs of the same name are rounds of the same work: once one has
            failed, the others are skipped.
        work: returns or yields JSON-serializable values.
        needs: name of an earlier job; if it failed, this job is skipped.
    """

    name: str
    work: Callable[[], Iterable[Any]]
    needs: str = ""


class Report(NamedTuple):
    """A value of a job, or the reason of its failure.

    Attributes:
        job: its name, or ``START`` if listing the jobs failed.
        value: the yielded value.
        reason: "TypeName: message", or how its process ended; None with a value.
        seconds: since the start of the job, or since its previous value.
    """

    job: str
    value: Any = None
    reason: str | None = None
    seconds: float = 0.0


def run_in_process(jobs: Callable[[], Iterable[Job]]) -> Iterator[Report]:
    """Run all jobs in this process and yield their reports.

    Args:
        jobs: lists the jobs; its InputError is not caught.
    """
    name, since = START, time.monotonic()
    for message in _messages(jobs, 0, set()):
        if "began" in message:
            name = message["began"]
        else:
            spent = time.monotonic() - since
            yield Report(name, message.get("value"), message.get("failed"), spent)
        since = time.monotonic()


def watched(source: str, arguments: dict[str, Any], seconds: float) -> Iterator[Report]:
    """Run all jobs in a child process and yield their reports.

    The child and its own children are killed if it sends nothing for ``seconds``. After that,
    after a crash, and after an error that made CUDA unusable, a new child runs the remaining jobs.

    Args:
        source: "module:function" that lists the jobs, the same ones at every call.
        arguments: JSON-serializable keyword arguments of the function.
        seconds: longest wait for the list of jobs, for the start of a job and for each value.

    Raises:
        InputError: the function raised it.
    """
    first: int | None = 0
    failed: set[str] = set()
    while first is not None:
        with _Child(source, arguments, first, failed) as child:
            first = yield from _reports(child.messages(seconds), failed)


def _reports(messages: Iterable[Message], failed: set[str]) -> Generator[Report, None, int | None]:
    """Yield the reports of one child; return the index of the next job to run, if there is one.

    Args:
        messages: messages of the child.
        failed: names of failed jobs; those of this child are added.
    """
    name, following, since = START, None, time.monotonic()
    for message in messages:
        spent, since = time.monotonic() - since, time.monotonic()
        if "began" in message:
            name, following = message["began"], message["following"]
        elif "value" in message:
            yield Report(name, message["value"], None, spent)
        elif "failed" in message:
            failed.add(name)
            yield Report(name, None, message["failed"], spent)
            if message["last"]:
                return following
        elif "refused" in message:
            raise InputError(message["refused"])
    return None


def _messages(jobs: Callable[[], Iterable[Job]], first: int, failed: set[str]) -> Iterator[Message]:
    """Run the jobs from index ``first`` on, and yield a message for each event.

    Args:
        jobs: lists the jobs.
        first: index of the first job to run.
        failed: names of jobs that failed earlier; others are added.
    """
    try:
        listed = list(jobs())
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 (every error is reported)
        yield _failure(error)
        return
    for index, job in enumerate(listed):
        if index < first or job.name in failed:
            continue
        yield {"began": job.name, "following": index + 1 if job is not listed[-1] else None}
        if job.needs in failed:
            failed.add(job.name)
            yield {"failed": f"skipped, because this job failed: {job.needs}"}
            continue
        try:
            for value in job.work():
                yield {"value": value}
        except Exception as error:  # noqa: BLE001 (every error is reported)
            failed.add(job.name)
            yield _failure(error)


def _failure(error: Exception) -> Message:
    # The report has one line for the error, so the traceback is printed here.
    traceback.print_exception(error)
    return {"failed": f"{type(error).__name__}: {error}"}


class _Child:
    """A child process that runs jobs and reports them through a pipe."""

    def __init__(
        self, source: str, arguments: dict[str, Any], first: int, failed: Collection[str]
    ) -> None:
        self.pipe, theirs = os.pipe()
        order = {
            "path": sys.path,
            "source": source,
            "arguments": arguments,
            "first": first,
            "failed": list(failed),
            "pipe": theirs,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(order)],
            stdin=lifeline(),
            pass_fds=(theirs,),
            # A process group, which can be killed as a whole.
            start_new_session=True,
        )
        os.close(theirs)
        self.received = b""

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        # A process blocked in a driver may survive the signal; do not wait for it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_ENDING)
        os.close(self.pipe)

    def messages(self, seconds: float) -> Iterator[Message]:
        """Yield the messages of the child, and a last one if it ended before all jobs did."""
        while (line := self._line(seconds)) is not None:
            message: Message = json.loads(line)
            if "ended" in message:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(_ENDING)
                return
            yield message
        yield {"failed": self._fate(seconds), "last": True}

    def _line(self, seconds: float) -> bytes | None:
        """Return the next line, or None if the child ended without one or took too long."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self.received:
            left = deadline - time.monotonic()
            # Check this before the pipe: messages sent before the end can still be read.
            ended = self.process.poll() is not None
            wait = 0.0 if ended else max(0.0, min(left, _LOOK))
            if not select.select([self.pipe], [], [], wait)[0]:
                if ended or left <= 0:
                    return None
            elif part := os.read(self.pipe, 1 << 16):
                self.received += part
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(_ENDING)
                return None
        line, _, self.received = self.received.partition(b"\n")
        return line

    def _fate(self, seconds: float) -> str:
        code = self.process.poll()
        if code is None:
            return f"no result within {seconds:g} s"
        if code < 0:
            return f"its process was ended by signal {-code} ({signal.strsignal(-code)})"
        return f"its process ended with exit code {code}"


def serve(
    source: str, arguments: dict[str, Any], first: int, failed: Collection[str], pipe: int
) -> None:
    """Run jobs for the watching process; see :func:`watched`.

    Args:
        source: "module:function" that lists the jobs.
        arguments: keyword arguments of the function.
        first: index of the first job to run.
        failed: names of jobs that failed earlier.
        pipe: file descriptor for the messages.
    """
    when_parent_ends(lambda: os.killpg(0, signal.SIGKILL))
    module, function = source.split(":")

    def jobs() -> Iterable[Job]:
        listed: Iterable[Job] = getattr(importlib.import_module(module), function)(**arguments)
        return listed

    with os.fdopen(pipe, "w") as out:
        try:
            for message in _messages(jobs, first, set(failed)):
                last = "failed" in message and _cuda_is_lost()
                print(json.dumps(message | {"last": last}), file=out, flush=True)
                if last:
                    return
            print(json.dumps({"ended": True}), file=out, flush=True)
        except InputError as error:
            print(json.dumps({"refused": str(error)}), file=out, flush=True)


def _cuda_is_lost() -> bool:
    """Return whether CUDA no longer responds, as after an illegal memory access."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
