"""Parallel decoding in threads; image codecs release Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cpu_count() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of_a_process() -> int:
    """Return the share of the processors that one of several processes on a machine has."""
    return max(1, cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def ahead_of(workers: int) -> int:
    """Return how many items are begun before the first of them is taken.

    All threads are busy, and the memory does not grow with the number of items.
    """
    return 2 * workers + 2


def parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed by one thread per processor of the process.

    Items are read as they are needed. The first exception is raised at the position of its result.
    Items that have not started by then are dropped.
    """
    workers = threads_of_a_process()
    begun: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                begun.append(pool.submit(function, item))
                if len(begun) >= ahead_of(workers):
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
