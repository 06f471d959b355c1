"""Times of Sinkhorn's iterations: our kernels and processor code against what others use.

On a GPU: median time of one solve from CUDA events around a CUDA graph of 100 solves on rotating
inputs, divided by 100. The released code's loop and POT cannot be captured (or gain nothing);
they run 100 solves eagerly between the events. A row has a value only if its result agreed with
float64 in the same process. The rows of a processor are those of ``sinkhorn_processor.py``.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import sinkhorn_processor
from benchmarks.sinkhorn_processor import EPSILON, agrees, float64, loop, title
from crkd.core.watched import Job
from crkd.ot import sinkhorn
from crkd.ot.backends import cuda as backend
from crkd.ot.cuda import compiler, launches, plans, solver

SHAPES = [*sinkhorn_processor.SHAPES, (2, 8192, 2000, 100)]
SOLVES = 100
BASELINES = ("batched torch in a graph", "released loop", "POT ot.batch")
Solve = Callable[[Tensor], Tensor]


def measurements(device: str = "cuda", repeats: int = 15) -> list[Job]:
    """Return the measurements on ``device``; each yields a row in the form of all benchmarks.

    Without a GPU the values of its rows are None. The processor's rows are measured on "cpu".

    Args:
        device: "cuda" or "cpu".
        repeats: timings of which the median counts.
    """
    jobs = []
    for shape in SHAPES:
        first = f"{title(*shape)} against {BASELINES[0]}"
        for baseline in BASELINES:
            name = f"{title(*shape)} against {baseline}"
            # All of them time our kernels too: it is enough to wait once for one that hangs.
            needs = "" if name == first else first
            jobs.append(_job(name, partial(_on_gpu, *shape, baseline, repeats), needs))
    jobs += [_job(f"{title(*s)}: Triton", partial(_triton, *s, repeats)) for s in SHAPES]
    name = f"{title(*SHAPES[-1])}: bfloat16 storage"
    jobs.append(_job(name, partial(_short_plan, *SHAPES[-1], repeats)))
    if device == "cpu":
        jobs += sinkhorn_processor.jobs()
    jobs.append(_job("eager call", partial(_eager_call, repeats)))
    jobs.append(_job("eager call: Python part alone", _python_part))
    return jobs


def _job(name: str, measure: Callable[[], dict[str, Any]], needs: str = "") -> Job:
    return Job(name, lambda: [measure()], needs)


def pot(scores: Tensor, num_iters: int) -> Tensor:
    """POT's batched solver, which needs the transposed problem to have our order of steps."""
    from ot.batch import bregman_log_projection_batch

    p, n, m = scores.shape
    plan = bregman_log_projection_batch(
        (scores / EPSILON).mT,
        a=scores.new_full((p, m), 1 / m),
        b=scores.new_full((p, n), 1 / n),
        max_iter=num_iters,
        tol=0.0,
    )["T"]
    transposed: Tensor = plan.mT
    return transposed * n


def _row(name: str, value: float | None, baseline: float | None, unit: str) -> dict[str, Any]:
    ratio = None if value is None or baseline is None else round(baseline / value, 2)
    return {
        "benchmark": "sinkhorn",
        "name": name,
        "value": None if value is None else round(value, 3),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 3),
        "ratio": ratio,
    }


def _on_gpu(p: int, n: int, m: int, t: int, baseline: str, repeats: int) -> dict[str, Any]:
    """Return the time of our kernels against that of one of ``BASELINES``."""
    name = f"{title(p, n, m, t)} against {baseline}"
    if not torch.cuda.is_available():
        return _row(name, None, None, "us")
    count = max(2, min(SOLVES, int(2e9 / (4 * p * n * m))))
    inputs = [torch.randn(p, n, m, device="cuda") for _ in range(count)]
    wanted = float64(inputs[0], t)

    def ours(scores: Tensor) -> Tensor:
        return sinkhorn(scores, epsilon=EPSILON, num_iters=t, backend="cuda")

    def torch_alone(scores: Tensor) -> Tensor:
        return sinkhorn(scores, epsilon=EPSILON, num_iters=t, backend="torch")

    value = None
    if agrees(ours(inputs[0]), wanted):
        value = _graph_time(ours, inputs, repeats)
    few = 3 if t > 3 else repeats
    solves = SOLVES if p * n * m * t < 10**8 else 4
    if baseline == "batched torch in a graph":
        theirs: float | None = _graph_time(torch_alone, inputs, few, solves)
    elif baseline == "released loop":
        theirs = _eager_time(lambda scores: loop(scores, t), inputs, few, solves)
    else:
        theirs = _pot_time(inputs, t, few, solves)
    return _row(name, value, theirs, "us")


def _short_plan(p: int, n: int, m: int, t: int, repeats: int) -> dict[str, Any]:
    """Return the time with a plan kept in bfloat16, against the one read in float32."""
    name = f"{title(p, n, m, t)}, bfloat16 storage against float32 storage"
    if not torch.cuda.is_available():
        return _row(name, None, None, "us")

    def ours(scores: Tensor, storage: torch.dtype = torch.bfloat16) -> Tensor:
        return sinkhorn(scores, epsilon=EPSILON, num_iters=t, storage=storage, backend="cuda")

    inputs = [torch.randn(p, n, m, device="cuda") for _ in range(4)]
    value = None
    if agrees(ours(inputs[0]), float64(inputs[0], t), 4e-3):
        value = _graph_time(ours, inputs, repeats, 4)
    baseline = _graph_time(lambda scores: ours(scores, torch.float32), inputs, repeats, 4)
    return _row(name, value, baseline, "us")


def _triton(p: int, n: int, m: int, t: int, repeats: int) -> dict[str, Any]:
    """Return the time of the Triton kernels, against PyTorch in a graph, which they replace."""
    name = f"{title(p, n, m, t)}, Triton against {BASELINES[0]}"
    if not torch.cuda.is_available():
        return _row(name, None, None, "us")

    def by(backend: str) -> Solve:
        return lambda scores: sinkhorn(scores, epsilon=EPSILON, num_iters=t, backend=backend)

    inputs = [torch.randn(p, n, m, device="cuda") for _ in range(4)]
    value = None
    if agrees(by("triton")(inputs[0]), float64(inputs[0], t)):
        value = _graph_time(by("triton"), inputs, repeats, 4)
    return _row(name, value, _graph_time(by("torch"), inputs, 3, 4), "us")


def _pot_time(inputs: list[Tensor], t: int, repeats: int, solves: int) -> float | None:
    try:
        import ot  # noqa: F401
    except ImportError:
        return None
    return _eager_time(lambda scores: pot(scores, t), inputs, repeats, solves)


def _eager_call(repeats: int) -> dict[str, Any]:
    """Return the time from the call until the result of the first shape is enqueued."""
    name = "eager call of (8, 256, 50), 3 iterations"
    if not torch.cuda.is_available():
        return _row(name, None, None, "us")
    scores = torch.randn(8, 256, 50, device="cuda")
    if not agrees(sinkhorn(scores, epsilon=EPSILON, num_iters=3), float64(scores, 3)):
        return _row(name, None, None, "us")
    times = []
    for _ in range(repeats * 4):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            sinkhorn(scores, epsilon=EPSILON, num_iters=3)
        times.append((time.perf_counter() - start) / 20 * 1e6)
    return _row(name, statistics.median(times), None, "us")


class FakeCudaTensor(Tensor):
    """Scores in host memory that call themselves scores on a GPU."""

    is_cuda = True
    __torch_function__ = torch._C._disabled_torch_function_impl

    def detach(self) -> Tensor:
        """Return these scores."""
        return self

    def reshape(self, *shape: Any) -> Tensor:
        """Return these scores in another shape, as the same class."""
        return super().reshape(*shape).as_subclass(FakeCudaTensor)


@contextmanager
def simulated_gpu(launch: Callable[..., None]) -> Iterator[None]:
    """Replace every call of the kernels' launcher that would need a GPU.

    Args:
        launch: takes the place of the launch; a kernel's ``code`` is its name and constants.
    """
    door = importlib.import_module("crkd.ot.sinkhorn")
    core = SimpleNamespace(
        launch=launch,
        LaunchConfig=lambda **layout: layout,
        Stream=SimpleNamespace(from_handle=lambda handle: handle),
        Device=lambda index: SimpleNamespace(set_current=lambda: None),
    )
    stand_ins: list[tuple[Any, str, Any]] = [
        (compiler, "core", lambda: core),
        (compiler, "cubin", lambda name, constants, architecture: (name, constants)),
        (compiler, "load", lambda code, *rest: SimpleNamespace(code=code)),
        (launches.Kernel, "clusters_at_once", lambda self: 16),
        (launches.Kernel, "blocks_per_multiprocessor", lambda self: 1),
        (launches, "device", lambda index: plans.Device(90, 232448, 16, 132)),
        (launches, "_raw_stream", lambda index: 0),
        (launches, "_thread", launches._Thread()),
        (backend, "_of_machine", lambda index: ()),
        (backend, "Tensor", FakeCudaTensor),
        (torch.cuda, "current_device", lambda: None),
        (torch.cuda, "is_current_stream_capturing", lambda: False),
        (torch.cuda, "device", lambda index: nullcontext()),
    ]
    with ExitStack() as stack:
        for module, name, stand_in in stand_ins:
            stack.enter_context(mock.patch.object(module, name, stand_in))
        for known in (solver._ready, solver._failed, door._bound):
            stack.enter_context(mock.patch.dict(known, clear=True))
        solver.streaming_run.cache_clear()
        yield
    solver.streaming_run.cache_clear()


def _python_part(calls: int = 2000) -> dict[str, Any]:
    """Return what of an eager call is Python's: the launch and the CUDA allocator do nothing."""
    times = []
    with simulated_gpu(lambda *arguments: None):
        scores = torch.zeros(8, 256, 50).as_subclass(FakeCudaTensor)
        for _ in range(20):
            start = time.perf_counter()
            for _ in range(calls // 20):
                sinkhorn(scores, epsilon=EPSILON, num_iters=3)
            times.append((time.perf_counter() - start) / (calls // 20) * 1e6)
    name = "eager call of (8, 256, 50), 3 iterations: Python part alone, launch stubbed"
    return _row(name, statistics.median(times[2:]), None, "us")


def _graph_time(solve: Solve, inputs: list[Tensor], repeats: int, solves: int = SOLVES) -> float:
    """Return the median microseconds of one solve within a graph of many."""
    make: Any = torch.cuda.Stream
    lane = make()
    with torch.cuda.stream(lane):
        for scores in inputs[:3]:
            solve(scores)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(solves):
            solve(inputs[i % len(inputs)])
    return _median_of_events(graph.replay, repeats) / solves


def _eager_time(solve: Solve, inputs: list[Tensor], repeats: int, solves: int) -> float:
    """Return the median microseconds of one solve among many called one after the other."""

    def all_of_them() -> None:
        for i in range(solves):
            solve(inputs[i % len(inputs)])

    solve(inputs[0])
    return _median_of_events(all_of_them, min(repeats, 5)) / solves


def _median_of_events(run: Callable[[], object], repeats: int) -> float:
    make: Any = torch.cuda.Event
    run()
    times: list[float] = []
    for _ in range(repeats):
        start, end = make(enable_timing=True), make(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)
