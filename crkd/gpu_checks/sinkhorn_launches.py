"""GPU checks of kernel launches: graphs, compiled code, streams and threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from crkd.gpu_checks.sinkhorn_cases import (
    EPSILON,
    CheckFailed,
    Run,
    bounded,
    persist,
    randn,
    row_error,
    solve,
    stream,
)
from crkd.ot import sinkhorn
from crkd.ot.cuda import compiler, launches

_INVALID_SOURCE = """\
extern "C" __global__ void sinkhorn_invalid_write(int* numbers, long long count) {
    numbers[count] = 1;
}
"""


def checks() -> list[tuple[str, Callable[[], str]]]:
    """Return (name, check) pairs; :mod:`crkd.gpu_checks.sinkhorn` runs them with its own."""
    return [
        ("sinkhorn: CUDA graph", capture),
        ("sinkhorn: torch.compile, with CUDA graphs too", compiled),
        ("sinkhorn: operator registration", operator_check),
        ("sinkhorn: two streams at once", streams),
        ("sinkhorn: a thread that starts with a launch", cold_thread),
    ]


def capture() -> str:
    """Check CUDA graphs with new inputs, and graphs of kernels that never ran before."""
    runs: tuple[Run, ...] = (solve, stream, persist)
    for run, shape in itertools.product(runs, ((8, 256, 50), (2, 5000, 300))):
        scores = randn(*shape)
        run(scores, 6)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run(scores, 6)
        for _ in range(3):
            scores.copy_(randn(*shape))
            graph.replay()
            if not torch.equal(result, run(scores, 6)):
                raise CheckFailed(f"a replay differs at {shape}: {run}")

    for run in runs:
        # More iterations than before: the first launch of these kernels is a captured one.
        scores = randn(2, 4100, 310)
        run(scores, 1)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run(scores, 6)
        graph.replay()
        if not torch.equal(result, run(scores, 6)):
            raise CheckFailed(f"a kernel first launched in a capture differs: {run.__name__}")
    return "two shapes, all kernels"


def compiled() -> str:
    """Check compiled functions without graph breaks, also with CUDA graphs of PyTorch.

    Recording follows a warm-up in the graph's private pool, so nothing created there may be kept.
    """
    worst = 0.0
    shapes = ((8, 256, 50), (2, 5000, 300))
    types = {torch.float32: 1e-4, torch.bfloat16: 4e-3}
    for shape, (storage, tolerance) in itertools.product(shapes, types.items()):

        def targets(scores: Tensor, storage: torch.dtype = storage) -> Tensor:
            return sinkhorn(scores * 2, epsilon=EPSILON, num_iters=6, storage=storage) + 1

        for mode in ("default", "reduce-overhead"):
            torch.compiler.reset()
            quick = torch.compile(targets, fullgraph=True, mode=mode)
            for _ in range(4):
                scores = randn(*shape)
                result = quick(scores).clone()
                error = row_error(result, targets(scores).double())
                worst = bounded(error, tolerance, f"{mode} at {shape}, {storage}", worst)
    return f"two shapes, two types, two modes; largest row error {worst:.1e}"


def operator_check() -> str:
    """Run ``torch.library.opcheck``."""
    scores = randn(2, 64, 20)
    for dtype in (torch.float32, torch.bfloat16):
        arguments = (scores.to(dtype), EPSILON, 3, None, None, None, torch.float32)
        torch.library.opcheck(torch.ops.crkd.sinkhorn.default, arguments)
    return "two types"


def streams() -> str:
    """Check that solves on two streams, whose kernels overlap, do not affect each other."""
    scores = [randn(4, 2000, 300), randn(4, 2000, 300)]
    runs = (stream, persist)
    alone = [run(one, 6) for run, one in zip(runs, scores, strict=True)]
    torch.cuda.synchronize()
    make: Callable[[], torch.cuda.Stream] = torch.cuda.Stream
    lanes = [make(), make()]
    results: list[list[Tensor]] = [[], []]
    for _ in range(200):
        for lane, run, one, kept in zip(lanes, runs, scores, results, strict=True):
            with torch.cuda.stream(lane):
                kept.append(run(one, 6))
    torch.cuda.synchronize()
    for kept, wanted in zip(results, alone, strict=True):
        if not all(torch.equal(one, wanted) for one in kept):
            raise CheckFailed("streams affect each other")
    return "400 solves"


def cold_thread() -> str:
    """Check a thread whose first work on the GPU is a launch, with its memory in the cache."""
    scores = randn(2, 5000, 300)
    runs: tuple[Run, ...] = (solve, stream, persist)
    for run in runs:
        wanted = run(scores, 6)
        results: list[Tensor | Exception] = []

        def work(run: Run = run, results: list[Tensor | Exception] = results) -> None:
            try:
                results.append(run(scores, 6))
            except Exception as error:  # noqa: BLE001
                results.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        (result,) = results
        if isinstance(result, Exception):
            raise CheckFailed(f"{run.__name__} fails in a new thread") from result
        if not torch.equal(result, wanted):
            raise CheckFailed(f"{run.__name__} differs in a new thread")
    return "all kernels"


def invalid_write() -> str:
    """Write one number past the end of a tensor, by a kernel with a name like the others.

    This is not one of the checks. It shows that a sanitizer watches kernels with these names.
    """
    numbers = torch.zeros(4, dtype=torch.int32, device="cuda")
    index = numbers.device.index
    code = compiler.compiled(_INVALID_SOURCE, f"sm_{launches.device(index).architecture}")
    kernel = compiler.core().ObjectCode.from_cubin(code).get_kernel("sinkhorn_invalid_write")
    config = compiler.core().LaunchConfig(grid=1, block=1)
    stream_now = launches.current_stream(index)
    compiler.core().launch(stream_now, config, kernel, numbers.data_ptr(), len(numbers))
    torch.cuda.synchronize()
    return "written"
