"""PyTorch takes over where the kernels cannot be compiled or loaded; users of a kernel are warned.

Scores in host memory claim to be on a GPU (``FakeCudaTensor``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.ot import operator, problem, sinkhorn
from crkd.ot.backends import cuda as backend
from crkd.ot.backends import triton as triton_backend
from crkd.ot.cuda import compiler, launches
from crkd.ot.triton import solver as triton

FAILURES = {
    "the compiler": (compiler, "cubin", "NVRTC_ERROR_INVALID_OPTION: sm_999\nits log"),
    "loading": (compiler, "load", "CUDA_ERROR_NO_BINARY_FOR_GPU"),
    "the launch's layout": (launches, "_config", "this cuda-core has no cooperative launches"),
}


class BrokenError(Exception):
    """An error of a type that nobody expects."""


@pytest.fixture
def fake_cuda(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Tensor]]:
    monkeypatch.setattr(problem, "_logged", set())
    with benchmark.simulated_gpu(lambda *arguments: None):
        yield benchmark.FakeCudaTensor


@pytest.fixture
def patch(fake_cuda: type[Tensor]) -> Iterator[pytest.MonkeyPatch]:
    """Changes to the machine with fake CUDA tensors, undone before it is."""
    with pytest.MonkeyPatch.context() as changes:
        yield changes


@pytest.fixture(params=FAILURES)
def attempts(request: pytest.FixtureRequest, patch: pytest.MonkeyPatch) -> list[str]:
    """Failed attempts, one entry each."""
    module, name, words = FAILURES[request.param]
    made: list[str] = []

    def broken(*arguments: object, **options: object) -> None:
        made.append(words.splitlines()[0])
        raise BrokenError(words)

    patch.setattr(module, name, broken)
    return made


@pytest.mark.parametrize("shape", [(2, 20, 11), (2, 4100, 310)])
def test_torch_takes_over_and_says_so_once(
    shape: tuple[int, ...],
    attempts: list[str],
    fake_cuda: type[Tensor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            scores = torch.randn(shape)
            for options in ({}, {"class_marginal": torch.ones(shape[-1])}):
                given = {key: value.as_subclass(fake_cuda) for key, value in options.items()}
                result = sinkhorn(scores.as_subclass(fake_cuda), epsilon=0.1, num_iters=3, **given)
                wanted = sinkhorn(scores, epsilon=0.1, num_iters=3, backend="torch", **options)
                assert torch.equal(result.as_subclass(Tensor), wanted)
    (message,) = caplog.messages
    assert "PyTorch takes over" in message
    assert f"BrokenError: {attempts[0]})" in message
    assert len(attempts) == 1, "what failed was tried again"


def test_a_named_backend_that_falls_back_gives_a_warning(
    attempts: list[str], fake_cuda: type[Tensor]
) -> None:
    scores = torch.randn(2, 20, 11).as_subclass(fake_cuda)
    sinkhorn(scores, epsilon=0.1, num_iters=3)
    words = "'cuda' cannot be used: the kernels cannot be compiled or loaded here"
    for _ in range(2):
        with pytest.raises(InputError, match=words) as caught:
            sinkhorn(scores, epsilon=0.1, num_iters=3, backend="cuda")
        assert attempts[0] in str(caught.value)
    assert len(attempts) == 1


def test_other_kernels_still_run(fake_cuda: type[Tensor], patch: pytest.MonkeyPatch) -> None:
    """One shape that fails leaves the others where they were, those seen before among them."""
    launched: list[int] = []
    patch.setattr(compiler.core(), "launch", lambda *arguments: launched.append(1))

    def solve(*shape: int) -> int:
        launched.clear()
        sinkhorn(torch.randn(shape).as_subclass(fake_cuda), epsilon=0.1, num_iters=3)
        return len(launched)

    assert solve(2, 20, 11) == 1
    with patch.context() as broken:
        broken.setattr(compiler, "cubin", lambda *arguments: 1 / 0)
        assert solve(2, 24, 11) == 0
        assert solve(2, 20, 11) == 1
    assert solve(2, 24, 11) == 0
    assert solve(2, 28, 11) == 1


def test_traced_code_falls_back_when_it_runs(
    attempts: list[str],
    fake_cuda: type[Tensor],
    caplog: pytest.LogCaptureFixture,
    patch: pytest.MonkeyPatch,
) -> None:
    """A tracer has taken the operator before anything could fail."""
    patch.setattr(backend, "Tensor", Tensor)  # fake CUDA scores are now such as tracers use

    def run(*arguments: object) -> Tensor:
        with patch.context() as inside:
            inside.setattr(backend, "Tensor", fake_cuda)  # what an operator gets is plain again
            return operator._on_cuda(*arguments)

    patch.setattr(torch.ops.crkd, "sinkhorn", run)
    scores = torch.randn(2, 20, 11)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            result = sinkhorn(scores.as_subclass(fake_cuda), epsilon=0.1, num_iters=3)
            wanted = sinkhorn(scores, epsilon=0.1, num_iters=3, backend="torch")
            assert torch.equal(result.as_subclass(Tensor), wanted)
    assert len(caplog.messages) == 1
    with pytest.raises(problem.Unavailable, match="cannot be compiled or loaded"):
        sinkhorn(scores.as_subclass(fake_cuda), epsilon=0.1, num_iters=3, backend="cuda")
    assert len(attempts) == 1


@pytest.fixture
def solved_by_triton(patch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of the scores that Triton got; a stand-in solves them."""
    shapes: list[torch.Size] = []

    def solve(given: problem.Problem) -> Tensor:
        shapes.append(given.scores.shape)
        return torch.full(given.scores.shape, 0.5)

    patch.setattr(triton_backend, "_of_machine", tuple)
    patch.setattr(triton, "_rehearsed", lambda kind: kind.plan)
    patch.setattr(triton, "_ready", {})
    patch.setattr(triton, "_failed", {})
    patch.setattr(triton, "solve", solve)
    patch.setattr(triton, "bind", lambda given: None)
    return shapes


def test_triton_takes_over_before_torch(
    attempts: list[str],
    solved_by_triton: list[torch.Size],
    fake_cuda: type[Tensor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores = torch.randn(2, 20, 11).as_subclass(fake_cuda)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert (sinkhorn(scores, epsilon=0.1, num_iters=3, relaxation=0.1) == 0.5).all()
    assert solved_by_triton == [(2, 20, 11)] * 2
    (message,) = caplog.messages
    assert "Triton takes over from the CUDA kernels" in message
    assert f"BrokenError: {attempts[0]})" in message
    assert len(attempts) == 1


def test_torch_takes_over_where_both_fail(
    attempts: list[str],
    solved_by_triton: list[torch.Size],
    fake_cuda: type[Tensor],
    patch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried: list[object] = []

    def broken(kind: object) -> None:
        tried.append(kind)
        raise BrokenError("Failed to find C compiler.\nmore")

    patch.setattr(triton, "_rehearsed", broken)
    scores = torch.randn(2, 20, 11)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            result = sinkhorn(scores.as_subclass(fake_cuda), epsilon=0.1, num_iters=3)
    wanted = sinkhorn(scores, epsilon=0.1, num_iters=3, backend="torch")
    assert torch.equal(result.as_subclass(Tensor), wanted)
    (message,) = caplog.messages
    for words in ("PyTorch takes over", f"{attempts[0]})", "Failed to find C compiler.)"):
        assert words in message
    assert len(attempts) == len(tried) == 1, "what failed was tried again"
    assert not solved_by_triton
    with pytest.raises(InputError, match="'triton' cannot be used: Triton's kernels cannot"):
        sinkhorn(scores.as_subclass(fake_cuda), epsilon=0.1, num_iters=3, backend="triton")


@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_traced_code_runs_triton(
    name: str, attempts: list[str], solved_by_triton: list[torch.Size], fake_cuda: type[Tensor]
) -> None:
    """Code that chose the CUDA kernels while it was traced, and code that chose Triton."""
    scores = torch.randn(2, 20, 11).as_subclass(fake_cuda)
    arguments = (scores, 0.1, 3, None, None, None, torch.float32, False, name)
    assert (operator._on_cuda(*arguments) == 0.5).all()
    assert solved_by_triton == [(2, 20, 11)]
    assert len(attempts) == (name == "cuda")


def test_triton_loads_nothing_in_a_capture(
    solved_by_triton: list[torch.Size], fake_cuda: type[Tensor], patch: pytest.MonkeyPatch
) -> None:
    scores = torch.randn(2, 20, 11).as_subclass(fake_cuda)
    patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="must be loaded before a CUDA graph captures them"):
        sinkhorn(scores, epsilon=0.1, num_iters=3, backend="triton")
    patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    sinkhorn(scores, epsilon=0.1, num_iters=3, backend="triton")
    patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    sinkhorn(scores, epsilon=0.1, num_iters=3, backend="triton")
    assert len(solved_by_triton) == 2


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_capture_is_not_ended_by_loading(
    name: str, fake_cuda: type[Tensor], patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    scores = torch.randn(2, 20, 11).as_subclass(fake_cuda)
    with pytest.raises(RuntimeError, match="must be loaded before a CUDA graph captures them"):
        sinkhorn(scores, epsilon=0.1, num_iters=3, backend=name)
    patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    sinkhorn(scores, epsilon=0.1, num_iters=3, backend="cuda")


def test_a_capture_after_a_failure_takes_torch(
    attempts: list[str], fake_cuda: type[Tensor], patch: pytest.MonkeyPatch
) -> None:
    scores = torch.randn(2, 20, 11)
    wanted = sinkhorn(scores.as_subclass(fake_cuda), epsilon=0.1, num_iters=3)
    patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    result = sinkhorn(scores.as_subclass(fake_cuda), epsilon=0.1, num_iters=3)
    assert torch.equal(result, wanted)
    assert len(attempts) == 1
