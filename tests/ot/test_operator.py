"""The PyTorch operator and ``torch.compile``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from crkd.ot import operator, sinkhorn
from crkd.ot.backends import triton
from crkd.ot.backends.cuda import _of_machine
from crkd.ot.problem import Problem


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operator_passes_opcheck(dtype: torch.dtype) -> None:
    scores = torch.randn(2, 12, 5).to(dtype)
    b = torch.full((5,), 0.2)
    for arguments in (
        (scores, 0.1, 3, None, None, None, torch.float32),
        (scores.mT.contiguous().mT, 0.1, 3, b, None, 0.3, torch.bfloat16, True),
        (scores, 0.1, 3, b, None, None, torch.float32, False, "triton"),
    ):
        torch.library.opcheck(torch.ops.crkd.sinkhorn.default, arguments)


def test_operator_gives_the_same_assignment() -> None:
    scores = torch.randn(2, 12, 5)
    problem = Problem(scores, 0.1, 3, None, None, None, None)
    result = operator.sinkhorn(problem, "cuda")
    torch.testing.assert_close(result, sinkhorn(scores, epsilon=0.1, num_iters=3))


@pytest.mark.skipif(
    torch.__version__ < TorchVersion("2.11"), reason="Dynamo of PyTorch 2.9 and 2.10 stops at it"
)
def test_compiled_code_gives_the_same_assignment() -> None:
    def targets(scores: Tensor, b: Tensor) -> Tensor:
        return sinkhorn(scores * 2, epsilon=0.1, num_iters=3, class_marginal=b) + 1

    compiled = torch.compile(targets, backend="aot_eager", fullgraph=True)
    scores, b = torch.randn(2, 12, 5), torch.full((5,), 0.2)
    torch.testing.assert_close(compiled(scores, b), targets(scores, b), atol=1e-5, rtol=0)


def test_the_choice_of_a_backend_can_be_traced() -> None:
    """Missing libraries are found while tracing and do not break the graph."""

    def reasons(scores: Tensor) -> Tensor:
        return scores + len(_of_machine(None)) + len(triton._of_machine())

    compiled = torch.compile(reasons, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(torch.zeros(3)), reasons(torch.zeros(3)))
