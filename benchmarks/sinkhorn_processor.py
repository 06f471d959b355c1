"""Sinkhorn on a processor against what others use, on cosines and on normal scores.

All solvers of one problem take turns in one process, in random order; OTT-JAX has a process of its
own. A short call is timed after untimed ones, so that every solver finds its code and
memory in the caches. The medians of all turns are compared. A solver has a time only if its result
agrees with float64; exponentials of normal scores overflow in some.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.ott_process import VARIABLE, OttProcess
from benchmarks.rows import row
from crkd.core.device import device_name
from crkd.core.watched import Job
from crkd.ot import reference, sinkhorn
from crkd.ot.problem import Problem
from crkd.runs.provenance import versions

EPSILON = 0.05
SHAPES = [(8, 256, 50, 3), (8, 512, 250, 3), (8, 512, 1000, 3), (64, 1024, 200, 10)]
INPUTS = ("cosines", "normal scores")
THREADS = (1, 2)
OTT = {"OTT-JAX kernel mode": False, "OTT-JAX": True}
"""Names of OTT-JAX's modes, and whether it iterates in logarithms."""

RIVALS = (
    "batched exponentials",
    "released loop",
    "torch.logsumexp",
    "POT bregman_projection_batch",
    "POT ot.batch",
    *OTT,
)
UNTIMED = {0.005: 2, 0.05: 1}
"""Calls before each timed one, by seconds that a call takes at most."""

SECONDS = 8.0
"""About the time to spend on one problem; there are at least five turns and at most a hundred."""

Solve = Callable[[Tensor, int], Tensor]
Timer = Callable[[], float]


def title(p: int, n: int, m: int, t: int) -> str:
    """Return the name of a problem."""
    return f"({p}, {n}, {m}), {t} iterations"


def jobs() -> list[Job]:
    """Return one job for each problem, input and number of threads, with a row for each library.

    Raises:
        InputError: the interpreter for OTT-JAX is named but not usable.
    """
    if os.environ.get(VARIABLE):
        with OttProcess(1):
            pass
    return [
        Job(_name(*shape, kind, threads), partial(rows, *shape, kind, threads))
        for threads in THREADS
        for kind in INPUTS
        for shape in SHAPES
    ]


def rows(p: int, n: int, m: int, t: int, kind: str, threads: int) -> list[dict[str, Any]]:
    """Return our time against that of every other library, in milliseconds."""
    found: dict[str, str] = {}
    with _torch_threads(threads), ExitStack() as stack:
        scores = scores_of(kind, p, n, m)
        timers = _timers_here(scores, t)
        if os.environ.get(VARIABLE):
            wanted = float64(scores, t)
            for name, lse in OTT.items():
                process = stack.enter_context(OttProcess(threads))
                found = process.versions
                if agrees(process.load(scores, EPSILON, t, lse=lse), wanted):
                    timers[name] = process.seconds
        times = _turns(timers)
        device = device_name(torch.device("cpu"))
    made = []
    for name in RIVALS:
        words = f"{_name(p, n, m, t, kind, threads)} against {name}"
        made.append(row("sinkhorn", "ms", words, times.get("ours"), times.get(name), device=device))
        if name in OTT and found:
            made[-1]["versions"] = versions() | found
    return made


def scores_of(kind: str, p: int, n: int, m: int) -> Tensor:
    """Return scores ``(P, N, M)`` float32: cosines of 64 features, or normal ones."""
    random = torch.Generator().manual_seed(0)
    if kind != "cosines":
        return torch.randn(p, n, m, generator=random)
    features, prototypes = (
        torch.nn.functional.normalize(torch.randn(p, size, 64, generator=random), dim=-1)
        for size in (n, m)
    )
    return features @ prototypes.mT


def float64(scores: Tensor, t: int) -> Tensor:
    """Return the assignment by the specification in float64."""
    return reference.solve(Problem(scores.double(), EPSILON, t, None, None, None, None))


def agrees(result: Tensor, wanted: Tensor, tolerance: float = 5e-5) -> bool:
    """Return whether all rows agree in L1."""
    return bool((result.double() - wanted).abs().sum(-1).max() <= tolerance)


def loop(scores: Tensor, num_iters: int) -> Tensor:
    """Self-labeling as its released code writes it: exponentials, one problem at a time."""
    results = []
    for one in scores:
        q = (one / EPSILON).exp().t()
        q = q / q.sum()
        k, b = q.shape
        for _ in range(num_iters):
            q = q / q.sum(1, keepdim=True) / k
            q = q / q.sum(0, keepdim=True) / b
        results.append((q * b).t())
    return torch.stack(results)


def batched(scores: Tensor, num_iters: int) -> Tensor:
    """Exponentials of all problems at once, divided in place."""
    q = (scores - scores.amax(-2, keepdim=True)).div_(EPSILON).exp_()
    for _ in range(num_iters):
        q /= q.sum(-2, keepdim=True)
        q /= q.sum(-1, keepdim=True)
    return q


def logarithms(scores: Tensor, num_iters: int) -> Tensor:
    """Potentials by ``torch.logsumexp``."""
    x = scores / EPSILON
    f = x.new_zeros(())
    for _ in range(num_iters):
        g = -(x + f).logsumexp(-2, keepdim=True)
        f = -(x + g).logsumexp(-1, keepdim=True)
    return (x + f + g).exp()


def _ours(scores: Tensor, num_iters: int) -> Tensor:
    return sinkhorn(scores, epsilon=EPSILON, num_iters=num_iters)


def _timers_here(scores: Tensor, t: int) -> dict[str, Timer]:
    """Return what times one call of each solver of this process, ours included."""
    wanted = float64(scores, t)
    solvers: dict[str, Solve] = {
        "ours": _ours,
        "batched exponentials": batched,
        "released loop": loop,
        "torch.logsumexp": logarithms,
    }
    timers: dict[str, Timer] = {
        name: partial(_seconds, solve, scores, t)
        for name, solve in solvers.items()
        if agrees(solve(scores, t), wanted)
    }
    # POT steps rows first, and its plan has sum one.
    wanted = float64(scores.mT, t).mT
    for name, solve in _of_pot(scores, t).items():
        if agrees(solve(scores, t).mT * scores.shape[2], wanted.mT):
            timers[name] = partial(_seconds, solve, scores, t)
    return timers


def _of_pot(scores: Tensor, t: int) -> dict[str, Solve]:
    try:
        from ot.batch import bregman_projection_batch, solve_batch
    except ImportError:
        return {}
    p, n, m = scores.shape
    options: dict[str, Any] = {
        "a": torch.full((p, n), 1 / n),
        "b": torch.full((p, m), 1 / m),
        "max_iter": t,
        "tol": 0.0,
    }

    def projection(scores: Tensor, num_iters: int) -> Tensor:
        plan: Tensor = bregman_projection_batch((scores / EPSILON).exp(), **options)["T"]
        return plan

    def batch(scores: Tensor, num_iters: int) -> Tensor:
        plan: Tensor = solve_batch(-scores, EPSILON, **options).plan
        return plan

    return {"POT bregman_projection_batch": projection, "POT ot.batch": batch}


def _seconds(solve: Solve, scores: Tensor, t: int) -> float:
    start = time.perf_counter()
    solve(scores, t)
    return time.perf_counter() - start


def _turns(timers: dict[str, Timer]) -> dict[str, float]:
    """Return the median time of each in milliseconds."""
    first = {name: min(timer() for _ in range(2)) for name, timer in timers.items()}
    calls = {name: 1 + _untimed(seconds) for name, seconds in first.items()}
    whole = sum(seconds * calls[name] for name, seconds in first.items())
    times: dict[str, list[float]] = {name: [] for name in timers}
    order, shuffle = list(timers), random.Random(0).shuffle
    for _ in range(max(5, min(100, int(SECONDS / max(whole, 1e-9))))):
        shuffle(order)
        for name in order:
            seconds = [timers[name]() for _ in range(calls[name])]
            times[name].append(seconds[-1] * 1e3)
    return {name: statistics.median(kept) for name, kept in times.items()}


def _untimed(seconds: float) -> int:
    return next((count for most, count in UNTIMED.items() if seconds <= most), 0)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _name(p: int, n: int, m: int, t: int, kind: str, threads: int) -> str:
    count = f"{threads} thread" + "s" * (threads > 1)
    return f"processor: {title(p, n, m, t)}, {kind}, {count}"
