"""Result of a transport problem that was solved to a tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crkd.ot.problem import full_precision

RIDGE = 1e-12
"""Added to the eigenvalues, in [0, 1], of the system of the gradient. Plans that split into
unconnected blocks have several eigenvalues of 0."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Solution of entropic optimal transport, ``P_ij = exp((f_i + scores_ij + g_j) / epsilon)``.

    The leading dimensions of all tensors are those of the scores; one element of them is one
    problem.

    Attributes:
        scores: ``(..., N, M)``, the scores of the problems, not copied.
        epsilon: ``(...)`` float64, weight of the entropy.
        sample_potentials: ``(..., N)`` float64, f in units of the scores; -inf for a sample of
            weight 0 or with scores of -inf only.
        class_potentials: ``(..., M)`` float64, g in units of the scores; -inf for a class of
            marginal 0 or with scores of -inf only. :func:`crkd.ot.solve` can start from them.
        marginal_error: ``(...)``, sum of ``|mass - marginal|`` over classes, in [0, 2]; for
            :func:`crkd.ot.solve_batch` over rows. The other marginal is exact. With scores so
            large that rounding destroys the plan, the larger error of both marginals, also
            above 2.
        iterations: ``(...)`` int64, number of iterations.
        converged: ``(...)`` bool, whether the marginal error is at most the tolerance.
        differentiable: whether :attr:`plan` has a gradient with respect to the scores.
    """

    scores: Tensor
    epsilon: Tensor
    sample_potentials: Tensor
    class_potentials: Tensor
    marginal_error: Tensor
    iterations: Tensor
    converged: Tensor
    differentiable: bool = False

    @property
    def plan(self) -> Tensor:
        """Transport plan ``(..., N, M)``, sum one, computed at each access.

        Rows sum to the sample marginal. Its dtype is float64 for float64 scores, else float32.

        If ``differentiable``, its gradient is that of the converged plan by the implicit function
        theorem (Luise et al. 2018; Eisenberger et al. 2022), whatever the number of iterations.
        It costs one solve of a float64 linear system of min(N, M) unknowns
        per problem. The gradient is of first order, and a RuntimeError refuses the second; the
        marginals count as constants.
        """
        scores = self.scores if self.differentiable else self.scores.detach()
        function: Any = _Plan
        plan: Tensor = function.apply(
            scores, self.sample_potentials, self.class_potentials, self.epsilon
        )
        return plan


class _Plan(torch.autograd.Function):
    """Plan of given potentials, with the gradient of the converged plan."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, f: Tensor, g: Tensor, epsilon: Tensor) -> Tensor:
        # The sum is rounded once, so potentials and scores of any size lose no digits.
        exponent = scores + f.unsqueeze(-1) + g.unsqueeze(-2)
        plan = exponent.div_(epsilon[..., None, None]).exp_()
        plan = plan.to(torch.float64 if scores.dtype == torch.float64 else torch.float32)
        ctx.save_for_backward(plan, epsilon, scores)
        return plan

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        plan, epsilon, scores = ctx.saved_tensors
        with torch.no_grad(), full_precision(plan.device):
            ours = gradient_of_scores(plan, gradient) / epsilon[..., None, None]
            ours = ours.to(scores.dtype)
        # With create_graph=True, PyTorch's once_differentiable makes a graph that does not reach
        # the scores: torch.autograd.grad of it would miss this term without an error.
        if torch.is_grad_enabled():
            function: Any = _FirstDerivative
            ours = function.apply(ours, scores, gradient)
        return ours, None, None, None


class _FirstDerivative(torch.autograd.Function):
    """A gradient that has none itself; its graph leads to what it depends on."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *origins: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "the plan of solve(..., gradient=True) has a first derivative only "
            "(once_differentiable); leave it out of terms that are differentiated twice"
        )


def gradient_of_scores(plan: Tensor, gradient: Tensor) -> Tensor:
    """Return epsilon times the gradient with respect to the scores, float64.

    With S = gradient * plan and the sums r and c of the plan's rows and columns, the gradient is
    ``S_ij - plan_ij (p_i + q_j)``, where p and q solve ``r p + plan q = S 1`` and
    ``plan' p + c q = S' 1``. Elimination of p leaves a system for q.

    Args:
        plan: ``(..., N, M)``, not negative.
        gradient: ``(..., N, M)``, gradient with respect to the plan.
    """
    if plan.shape[-2] < plan.shape[-1]:
        return gradient_of_scores(plan.mT, gradient.mT).mT
    plan = plan.double()
    weighted = gradient.double() * plan
    rows, columns = plan.sum(-1), plan.sum(-2)
    per_row = torch.where(rows > 0, 1 / rows, 0.0).unsqueeze(-1)
    scale = torch.where(columns > 0, columns.rsqrt(), 0.0)
    conditional = plan * per_row
    # Scaled by the column sums, the system is I minus a matrix with eigenvalues in [0, 1].
    system = -(plan.mT @ conditional) * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    system.diagonal(dim1=-2, dim2=-1).add_(1 + RIDGE)
    wanted = weighted.sum(-2) - (conditional * weighted.sum(-1, keepdim=True)).sum(-2)
    solved: Tensor = torch.linalg.solve_ex(system, (scale * wanted).unsqueeze(-1)).result
    q = scale.unsqueeze(-1) * solved
    p = per_row * (weighted.sum(-1, keepdim=True) - plan @ q)
    return weighted - plan * (p + q.mT)
