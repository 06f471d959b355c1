"""Processing of a batch on the CPU in cache-sized pieces, with one thread per core."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

# 256 images of 32 px: with fewer, call overhead dominates; with more, the cache overflows.
_PIXELS = 2**18


def for_each_piece(count: int, pixels: int, work: Callable[[slice], None]) -> None:
    """Call ``work`` with slices that together cover ``count`` images.

    The pieces are distributed over as many threads as torch uses for one operation. Inside a piece,
    every operation runs on one thread, because splitting such small operations costs more time
    than it saves.

    Args:
        count: images in the batch.
        pixels: pixels of one view.
        work: renders the images of one slice; called from several threads at once.
    """
    threads = torch.get_num_threads()
    length = max(1, _PIXELS // pixels)
    if threads > 1 and count > length // 2:
        length = min(length, -(-count // threads))
    pieces = [slice(start, min(start + length, count)) for start in range(0, count, length)]
    if threads == 1 or len(pieces) == 1:
        for piece in pieces:
            work(piece)
        return
    # The list re-raises an exception of a thread here.
    list(_pool(os.getpid(), threads).map(work, pieces))


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the thread pool of this process; a forked child must not use that of its parent."""
    ready = Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        ready.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="crkd-augment")
    for _ in range(threads):
        pool.submit(start)
    ready.wait()
    # The setting holds for this thread and for threads that start later, so restore it.
    torch.set_num_threads(before)
    return pool
