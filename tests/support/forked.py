"""Processes that start in a moment: forks of one process that has imported everything.

A fresh process of a training run imports for seconds. The server of forks of multiprocessing is a
process of its own, without threads, and imports once for all tests that use it.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT


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
