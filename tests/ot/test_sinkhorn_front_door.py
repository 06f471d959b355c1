"""Arguments, shapes, backends and messages of ``crkd.ot.sinkhorn``."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.ot import problem, sinkhorn
from crkd.ot.arguments import marginal
from crkd.ot.problem import BACKENDS


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 3, 5), (2, 0, 0), (2, 3, 0, 4)])
def test_empty_scores_give_empty_assignments(shape: tuple[int, ...]) -> None:
    assert sinkhorn(torch.zeros(shape), epsilon=0.1, num_iters=3).shape == shape


def test_leading_dimensions_are_kept_and_the_result_is_contiguous() -> None:
    scores = torch.randn(5, 3, 2, 20).permute(2, 1, 3, 0)
    result = sinkhorn(scores, epsilon=0.1, num_iters=3)
    assert result.shape == (2, 3, 20, 5)
    assert result.is_contiguous()
    expected = sinkhorn(scores.contiguous(), epsilon=0.1, num_iters=3)
    torch.testing.assert_close(result, expected)


def test_expanded_scores() -> None:
    one = torch.randn(20, 5)
    result = sinkhorn(one.expand(3, 20, 5), epsilon=0.1, num_iters=3)
    expected = sinkhorn(one, epsilon=0.1, num_iters=3)
    torch.testing.assert_close(result, expected.expand(3, 20, 5), atol=1e-6, rtol=0)


def test_scores_are_left_alone_and_no_gradient_flows() -> None:
    scores = torch.randn(2, 20, 5, requires_grad=True)
    before = scores.detach().clone()
    for backend in ("torch", "pot"):
        with pytest.warns(UserWarning, match="no gradient flows"):
            result = sinkhorn(scores, epsilon=0.1, num_iters=3, backend=backend)
        assert not result.requires_grad
    assert torch.equal(scores.detach(), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epsilon": 0.0}, "epsilon must be a finite number above 0, got 0.0"),
        ({"epsilon": float("nan")}, "epsilon"),
        (
            {"epsilon": 1e-39},
            "epsilon is 1e-39, but must be at least 1.18e-38 for .* torch.float32",
        ),
        ({"num_iters": 0}, "num_iters must be at least 1, got 0"),
        ({"num_iters": 3.5}, "num_iters must be a whole number, got 3.5"),
        ({"scores": np.zeros((4, 3))}, "scores must be a tensor, got ndarray; convert it with"),
        ({"class_marginal": [1.0, 1.0, 1.0]}, "class_marginal must be a tensor, got list"),
        ({"scores": torch.zeros(4)}, "scores must be a floating point tensor"),
        ({"scores": torch.zeros(4, 3, dtype=torch.int64)}, "torch.int64"),
        ({"class_marginal": torch.ones(4)}, r"class_marginal must have shape \(3,\)"),
        ({"class_marginal": torch.tensor([1.0, -1.0, 1.0])}, "non-negative"),
        ({"class_marginal": torch.tensor([1.0, torch.nan, 1.0])}, "finite"),
        ({"sample_marginal": torch.zeros(6)}, "sample_marginal must be finite"),
        ({"relaxation": -1.0}, "relaxation"),
        ({"storage": torch.float16}, "storage must be torch.float32 or torch.bfloat16"),
        ({"backend": "tporch"}, "unknown OT backend 'tporch'.*did you mean 'torch'"),
        ({"backend": "pot", "relaxation": 1.0}, "'pot' cannot be used: .*relaxed"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"scores": torch.zeros(2, 6, 3), "epsilon": 0.1, "num_iters": 3}
    arguments |= change
    scores = arguments.pop("scores")
    with pytest.raises(InputError, match=words):
        sinkhorn(scores, **arguments)  # type: ignore[arg-type]


def test_an_explicit_cuda_backend_gives_all_reasons() -> None:
    with pytest.raises(InputError, match=r"on cpu, not on a CUDA device; .*float64"):
        sinkhorn(torch.zeros(3, 2, dtype=torch.float64), epsilon=1, num_iters=1, backend="cuda")


def test_an_explicit_triton_backend_gives_all_reasons() -> None:
    words = r"'triton' cannot be used: .*on cpu, not on a CUDA device; .*not torch.float64"
    with pytest.raises(InputError, match=words):
        sinkhorn(torch.zeros(3, 2, dtype=torch.float64), epsilon=1, num_iters=1, backend="triton")


def test_the_backends_are_found_by_their_files() -> None:
    assert BACKENDS.names() == ["cuda", "pot", "torch", "triton"]


def test_a_fallback_is_logged_once_with_all_reasons(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that call themselves scores on a GPU, where no kernel can run."""

    class FakeCudaTensor(Tensor):
        is_cuda = True
        __torch_function__ = torch._C._disabled_torch_function_impl

        def detach(self) -> Tensor:
            return self

        def reshape(self, *shape: int) -> Tensor:
            return super().reshape(*shape).as_subclass(FakeCudaTensor)

    monkeypatch.setattr(problem, "_logged", set())
    monkeypatch.setattr(torch.version, "cuda", None)
    cuda = importlib.import_module("crkd.ot.backends.cuda")
    monkeypatch.setattr(cuda, "_of_machine", cuda._lacks.__wrapped__)
    scores = torch.randn(2, 9, 4, dtype=torch.float64)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            result = sinkhorn(scores.as_subclass(FakeCudaTensor), epsilon=0.1, num_iters=3)
    assert torch.equal(result.as_subclass(Tensor), sinkhorn(scores, epsilon=0.1, num_iters=3))
    (message,) = caplog.messages
    for reason in ("PyTorch takes over", "built without CUDA", "not torch.float64"):
        assert reason in message


def test_importing_compiles_nothing_and_touches_no_gpu() -> None:
    program = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import crkd.ot\n"
        "assert 'triton' not in sys.modules\n"
        # From here on PyTorch itself may import Triton.
        "import crkd.ot.backends.cuda, crkd.ot.backends.triton\n"
        "assert not torch.cuda.is_initialized()\n"
        "assert 'crkd.ot.triton.launches' not in sys.modules\n"
        "loaded = [n for n in set(sys.modules) - before if n.startswith(('cuda', 'ot'))]\n"
        "assert loaded == [], loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("bad", [-1.0, torch.nan, torch.inf])
def test_weights_of_one_process_are_checked_too(bad: float) -> None:
    """Before any process waits for another; all of them may be zero in this one."""
    weights, scores = torch.tensor([1.0, bad, 2.0]), torch.zeros(3, 2)
    with pytest.raises(InputError, match="sample_marginal must be finite, non-negative, got"):
        marginal("sample_marginal", weights, scores, 3, normalize=False)
    zero = marginal("sample_marginal", torch.zeros(3), scores, 3, normalize=False)
    assert torch.equal(zero, torch.zeros(3))
