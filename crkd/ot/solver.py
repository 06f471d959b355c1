"""Entropic optimal transport to a tolerance: ``solve``, and ``solve_batch`` as POT calls it."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.ot import transforms
from crkd.ot.arguments import (
    check_inverse,
    check_scores,
    check_tensors,
    checked_count,
    expands,
    marginal,
)
from crkd.ot.problem import full_precision
from crkd.ot.reference import LARGEST
from crkd.ot.solution import Solution
from crkd.ot.stabilized import iterate

_ASK = "pass gradient=True for a gradient with respect to the scores, and detach other tensors"


def solve(
    scores: Tensor,
    *,
    epsilon: float | Tensor,
    tol: float = 1e-5,
    max_iters: int = 1000,
    class_marginal: Tensor | None = None,
    sample_marginal: Tensor | None = None,
    class_potentials: Tensor | None = None,
    gradient: bool = False,
) -> Solution:
    """Solve entropic optimal transport between N samples and M classes to a tolerance.

    Maximizes ``sum P * scores + epsilon * entropy(P)`` over plans P with the given marginals, by
    Sinkhorn's algorithm (Cuturi 2013), stabilized on a CPU (Schmitzer 2019) and in logarithms on
    other devices. The order of steps is that of :func:`crkd.ot.sinkhorn`: classes first, samples
    last. Sample weights are therefore exact, and class masses match up to ``tol``. Every leading
    dimension is a problem of its own and iterates until it has converged.

    A sample whose scores are all -inf has no weight. A class whose scores are all -inf gets no
    mass, so its problem does not converge unless its marginal is 0.

    Args:
        scores: ``(..., N, M)`` floating point, larger is closer; N and M at least 1. float64 is
            computed in float64, all others in float32.
        epsilon: weight of the entropy, above 0, in units of the scores: a number, or a tensor that
            expands to ``(...)``. It must be a normal number of the compute dtype.
        tol: sum of ``|mass - marginal|`` over classes at which a problem has converged, at least
            0. In float32 it cannot be much below ``1e-7 max|scores| / epsilon``. Scores above
            about ``1e6 epsilon`` in float32, or ``4e14 epsilon`` in float64, count as converged
            only if classes and samples of the plan itself have their masses.
        max_iters: number of iterations at most, at least 1. Convergence is checked after every
            iteration on a CPU and after every tenth on a GPU.
        class_marginal: ``(M,)`` or ``(..., M)``, non-negative, scaled to sum to one; uniform if
            None.
        sample_marginal: ``(N,)`` or ``(..., N)``, likewise.
        class_potentials: ``(M,)`` or ``(..., M)``, :attr:`Solution.class_potentials` of a similar
            problem to start from, also with other samples or another epsilon.
        gradient: whether the plan has a gradient with respect to the scores.

    Returns:
        The solution. A UserWarning names the number of problems that have not converged, and of
        those that hold NaN, unless ``tol`` is 0.

    Raises:
        InputError: an argument is out of range or does not fit the scores, or the call is inside a
            transform of ``torch.func``.

    >>> solution = solve(torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.6]]), epsilon=0.1)
    >>> solution.plan.sum(0)
    tensor([0.5000, 0.5000])
    >>> bool(solution.converged)
    True
    """
    check_tensors(
        scores=scores,
        class_marginal=class_marginal,
        sample_marginal=sample_marginal,
        class_potentials=class_potentials,
    )
    max_iters = _checked_call(scores, "scores", tol, max_iters, "max_iters")
    constants = {
        "epsilon": epsilon if isinstance(epsilon, Tensor) else None,
        "class_marginal": class_marginal,
        "sample_marginal": sample_marginal,
    }
    transforms.warn_of_zero_gradient(
        constants if gradient else {"scores": scores} | constants, _ASK
    )
    n, m = scores.shape[-2:]
    with torch.no_grad(), full_precision(scores.device):
        solution = _solved(
            scores.detach(),
            _epsilons("epsilon", epsilon, scores),
            None
            if class_marginal is None
            else marginal("class_marginal", class_marginal, scores, m),
            None
            if sample_marginal is None
            else marginal("sample_marginal", sample_marginal, scores, n),
            None if class_potentials is None else _potentials(class_potentials, scores),
            tol,
            max_iters,
        )
    return replace(solution, scores=scores, differentiable=True) if gradient else solution


def solve_batch(
    M: Tensor,
    reg: float | Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    max_iter: int = 1000,
    tol: float = 1e-5,
    gradient: bool = False,
) -> Solution:
    """Solve entropic optimal transport with costs and marginals as POT's ``ot.batch.solve_batch``.

    Minimizes ``sum P * M - reg * entropy(P)``, POT's ``reg_type="entropy"``. Rows come first and
    columns last, as in POT, the reverse of :func:`solve`. The column marginal is therefore exact,
    and the row marginal matches up to ``tol``.

    Args:
        M: ``(..., N, M)`` floating point costs, smaller is closer; N and M at least 1.
        reg: weight of the entropy, above 0: a number, or a tensor that expands to ``(...)``.
        a: row marginal ``(N,)`` or ``(..., N)``, non-negative, scaled to sum to one; uniform if
            None.
        b: column marginal ``(M,)`` or ``(..., M)``, likewise.
        max_iter: number of iterations at most, at least 1.
        tol: sum of ``|mass - a|`` over rows at which a problem has converged, at least 0. POT takes
            the Euclidean norm.
        gradient: whether the plan has a gradient with respect to ``M``.

    Returns:
        The solution for the scores ``-M``. Its sample potentials are those of the rows, divided by
        ``reg`` they are POT's.

    Raises:
        InputError: as for :func:`solve`.

    >>> solve_batch(torch.tensor([[[0.1, 0.9], [0.2, 0.8], [0.4, 0.3]]]), 0.1).plan.sum(-2)
    tensor([[0.5000, 0.5000]])
    """
    check_tensors(M=M, a=a, b=b)
    max_iter = _checked_call(M, "M", tol, max_iter, "max_iter")
    constants = {"reg": reg if isinstance(reg, Tensor) else None, "a": a, "b": b}
    transforms.warn_of_zero_gradient(constants if gradient else {"M": M} | constants, _ASK)
    n, m = M.shape[-2:]
    scores = -M if gradient else -M.detach()
    with torch.no_grad(), full_precision(M.device):
        solution = _solved(
            scores.detach().mT,
            _epsilons("reg", reg, M),
            None if a is None else marginal("a", a, M, n),
            None if b is None else marginal("b", b, M, m),
            None,
            tol,
            max_iter,
        )
    return replace(
        solution,
        scores=scores,
        sample_potentials=solution.class_potentials,
        class_potentials=solution.sample_potentials,
        differentiable=gradient,
    )


def _checked_call(scores: Tensor, name: str, tol: float, max_iters: int, limit: str) -> int:
    """Return the number of iterations if these arguments of both functions are usable."""
    if transforms.active():
        raise InputError(
            "solve and solve_batch do not work inside torch.func transforms: pass all problems at "
            "once as leading dimensions, and call backward() for a gradient"
        )
    check_scores(scores, name)
    if 0 in scores.shape[-2:]:
        raise InputError(f"{name} must have N and M of at least 1, got {tuple(scores.shape)}")
    if not 0 <= tol < math.inf:
        raise InputError(f"tol must be a finite number of at least 0, got {tol}")
    return checked_count(limit, max_iters)


def _epsilons(name: str, epsilon: float | Tensor, scores: Tensor) -> Tensor:
    """Return one epsilon for each problem, ``(...)`` float64."""
    lead = scores.shape[:-2]
    values = torch.as_tensor(epsilon, dtype=torch.float64, device=scores.device).detach()
    if not expands(values.shape, lead):
        raise InputError(
            f"{name} must be a number or a tensor that expands to {tuple(lead)} to fit the "
            f"problems, got shape {tuple(values.shape)}"
        )
    if not bool(((values > 0) & values.isfinite()).all()):
        raise InputError(f"{name} must be finite and above 0, got {values.min().item()}")
    if values.numel():
        check_inverse(name, float(values.min()), scores)
    return values.expand(lead)


def _potentials(values: Tensor, scores: Tensor) -> Tensor:
    """Return class potentials to start from, ``(P, 1, M)`` float64."""
    wanted = (*scores.shape[:-2], scores.shape[-1])
    if values.shape[-1:] != wanted[-1:] or not expands(values.shape, wanted):
        raise InputError(
            f"class_potentials must have shape {wanted[-1:]} or {wanted} to fit the scores "
            f"{tuple(scores.shape)}, got {tuple(values.shape)}"
        )
    values = values.detach().to(scores.device, torch.float64)
    if not bool((values.amax(-1).isfinite() & (values < torch.inf).all(-1)).all()):
        raise InputError(
            "class_potentials must be finite, or -inf for some classes of a problem; start without "
            "them"
        )
    return values.expand(wanted).reshape(-1, 1, wanted[-1])


def _solved(
    scores: Tensor,
    epsilon: Tensor,
    class_marginal: Tensor | None,
    sample_marginal: Tensor | None,
    class_potentials: Tensor | None,
    tol: float,
    max_iters: int,
) -> Solution:
    """Solve checked problems; marginals ``(size,)`` or ``(P, size)``, sum one."""
    *lead, n, m = scores.shape
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    flat = scores.reshape(math.prod(lead), n, m).to(dtype)
    eps = epsilon.reshape(-1, 1, 1)
    # The first class step absorbs a constant per class; without it, differences between samples
    # keep more digits.
    best = flat.amax(-2, keepdim=True)
    best = torch.where(best.isfinite(), best, 0.0)
    x = torch.sub(flat, best).div_(eps.to(dtype))
    a, b = _whole(sample_marginal, x, n), _whole(class_marginal, x, m)
    # Potentials of this size have no digits left for the marginals, whose error is then counted.
    extreme = len(x) > 0 and not bool(x.amin() >= -0.1 / torch.finfo(dtype).eps)
    if extreme and not bool(x.amin() >= -LARGEST):
        x = torch.where(flat.isinf(), flat, x.clamp_(-LARGEST, LARGEST))
        a = a.masked_fill(x.amax(-1) == -torch.inf, 0.0)
    total = a.sum(-1, keepdim=True)
    a = a / torch.where(total > 0, total, 1.0)
    start = None if class_potentials is None else ((class_potentials + best) / eps).to(dtype)
    state = iterate(x, a.log().unsqueeze(2), b.log().unsqueeze(1), start, tol, max_iters)
    solution = Solution(
        scores,
        epsilon,
        (state.f.double() * eps).reshape(*lead, n),
        (state.g.double() * eps - best).reshape(*lead, m),
        state.error.reshape(lead),
        state.iterations.reshape(lead),
        (state.error <= tol).reshape(lead),
    )
    if extreme:
        error = torch.maximum(state.error, _error_of_plan(solution.plan.reshape(-1, n, m), a, b))
        solution = replace(
            solution,
            marginal_error=error.reshape(lead),
            converged=(error <= tol).reshape(lead),
        )
    _warn_of_errors(solution, tol, max_iters)
    return solution


def _error_of_plan(plan: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the marginal error of ``(P, N, M)`` plans over classes or samples, the larger one."""
    return torch.maximum((plan.sum(-2) - b).abs().sum(-1), (plan.sum(-1) - a).abs().sum(-1))


def _warn_of_errors(solution: Solution, tol: float, max_iters: int) -> None:
    failed = int((~solution.converged).sum())
    if failed and tol > 0:
        errors = solution.marginal_error
        lost = int(errors.isnan().sum())
        largest = float(errors.max() if lost == failed else errors[~errors.isnan()].max())
        hopeless = f"; {lost} of them hold NaN or +inf and cannot converge" if lost else ""
        warnings.warn(
            f"{failed} of {solution.converged.numel()} transport problems have not converged after "
            f"{max_iters} iterations (largest marginal error {largest:.2g}, tolerance {tol:.2g}): "
            f"allow more iterations, a larger tolerance or more entropy{hopeless}",
            stacklevel=4,
        )


def _whole(marginal: Tensor | None, x: Tensor, size: int) -> Tensor:
    """Return a marginal, or the uniform one, as ``(P, size)``."""
    if marginal is None:
        return x.new_full((len(x), size), 1 / size)
    return marginal.to(x.dtype).expand(len(x), size)
