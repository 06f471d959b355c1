"""Processes that start in a moment: forks of one process that has imported everything.

A fresh process of a training run imports for seconds. The server of forks of multiprocessing is a
process of its own, without threads, and imports once for all tests that use it.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, BinaryIO, Self

import pytest

from tests.support import ROOT
from tests.support.small_runs import thin_data_sets


def fork_context() -> ForkServerContext:
    """Return the context of multiprocessing whose processes are forks; its server runs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        # The server inherits both.
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


@contextmanager
def forks(count: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of forks; what a function prints or raises is that of a fresh process."""
    with ProcessPoolExecutor(count, mp_context=fork_context()) as pool:
        yield pool


def in_fork(work: Callable[..., Any], *arguments: object) -> Any:
    """Return what ``work`` returns in a fork; an error of it is raised here."""
    with forks(1) as pool:
        return pool.submit(work, *arguments).result()


def started(work: Callable[..., int], *arguments: object, output: Path) -> ForkServerProcess:
    """Start a fork that does ``work``, prints into a file and exits with the returned code."""
    process = fork_context().Process(target=_printing, args=(output, work, *arguments))
    process.start()
    return process


def _printing(output: Path, work: Callable[..., int], *arguments: object) -> None:
    with output.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    raise SystemExit(work(*arguments))


class ForkedCommand:
    """The part of ``subprocess.Popen`` that callers of ``crkd`` need, for a fork on few images.

    Args:
        command: ``python -m crkd.commands.main VERB ARGUMENTS``.
        stdout: open file that receives the output.
        env: environment of the process.
        options: further arguments of ``Popen``.
    """

    def __init__(
        self, command: Sequence[str], *, stdout: BinaryIO, env: dict[str, str], **options: object
    ) -> None:
        assert options.pop("start_new_session")
        self.args = command
        verb, *arguments = command[3:]
        self._process = started(_run_verb, verb, arguments, env, output=Path(stdout.name))
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _run_verb(verb: str, arguments: list[str], environment: dict[str, str]) -> int:
    from crkd.commands.main import run_verb

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    thin_data_sets(pytest.MonkeyPatch())
    return run_verb(verb, arguments)
