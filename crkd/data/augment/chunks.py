"""Works a batch off on the CPU: in pieces that fit the cache, one thread a core."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

# 256 images of 32 px: with fewer the calls themselves dominate, with more the cache overflows.
_PIXELS = 2**18


def for_each_piece(count: int, pixels: int, work: Callable[[slice], None]) -> None:
    """Call ``work`` with slices that together cover ``count`` images.

    Several pieces are shared out over as many threads as torch uses for one operation; inside
    them every operation runs on one thread, because pieces are too small to be worth splitting
    and waiting for each other after every operation costs more than it gains.

    Args:
        count: images in the batch.
        pixels: of one view.
        work: renders the images of one slice; called from several threads at a time.
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
    # A list, so that an exception in a thread is raised here.
    list(_pool(os.getpid(), threads).map(work, pieces))


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; a forked child must not wait for its parent's."""
    ready = Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        ready.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="crkd-augment")
    for _ in range(threads):
        pool.submit(start)
    ready.wait()
    # Holds for the thread that sets it and for threads that start later: put it back for those.
    torch.set_num_threads(before)
    return pool
