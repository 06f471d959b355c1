"""Number of threads with which the products of PyTorch keep the bits of one thread.

The matrix library behind ``torch.bmm`` may divide a sum among threads, depending on the processor,
the sizes and the number of problems. On one thread the bits of a problem do not depend on the other
problems. With several they do not either, where each product equals that of one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crkd.ot.scratch import Scratch

_KEPT = 1024
"""Largest number of results that are cached."""

_answers: dict[tuple[int, ...], bool] = {}


def threads_for_products(memory: Scratch) -> int:
    """Return the present number of threads if it keeps the bits of one thread, else 1.

    The first call for a number of problems of one size and a number of threads compares the
    products of random numbers, which takes about the time of two iterations.

    Args:
        memory: what the products use; its values are lost.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return 1
    key = (*memory.kernel.shape, memory.rows.shape[-1], memory.kernel.itemsize, threads)
    if key not in _answers:
        if len(_answers) >= _KEPT:
            _answers.clear()
        _answers[key] = _keeps_bits(memory, threads)
    return threads if _answers[key] else 1


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Compute the block with that many threads."""
    before = torch.get_num_threads()
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keeps_bits(memory: Scratch, threads: int) -> bool:
    random = torch.Generator().manual_seed(0)
    for tensor in (memory.kernel, memory.u, memory.v):
        tensor.uniform_(generator=random)
    found = []
    for number in (threads, 1):
        with limited_to(number):
            memory.sum_rows()
            memory.sum_columns()
        found.append((memory.rows.clone(), memory.columns.clone()))
    return all(torch.equal(*pair) for pair in zip(*found, strict=True))
