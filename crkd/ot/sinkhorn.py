"""Public function of balanced class assignment: argument checks and choice of the backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.ot import transforms
from crkd.ot.arguments import (
    check_inverse,
    check_scores,
    check_tensors,
    checked_count,
    marginal,
)
from crkd.ot.problem import BACKENDS, Backend, Problem, full_precision, instead_of_cuda

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_CONSTANT = (
    "for pseudo-labels, pass scores.detach() or call sinkhorn under torch.no_grad(); for a "
    "gradient, use crkd.ot.solve(..., gradient=True).plan"
)

_bound: dict[tuple[object, ...], Callable[[Tensor], Tensor]] = {}
"""Solvers of earlier calls, which passed all checks."""


class _Settings(NamedTuple):
    """Arguments of :func:`sinkhorn` that are not tensors."""

    epsilon: float
    num_iters: int
    backend: str
    relaxation: float | None
    group: ProcessGroup | None
    storage: torch.dtype


def sinkhorn(
    scores: Tensor,
    *,
    epsilon: float,
    num_iters: int,
    class_marginal: Tensor | None = None,
    sample_marginal: Tensor | None = None,
    backend: str = "auto",
    relaxation: float | None = None,
    group: ProcessGroup | None = None,
    storage: torch.dtype = torch.float32,
) -> Tensor:
    """Assign samples to classes so that the class masses match ``class_marginal``.

    Solves entropic optimal transport between N samples and M classes, for all leading
    dimensions at once, by ``num_iters`` iterations of Sinkhorn's algorithm (Cuturi 2013): first
    the class step, then the sample step, the order of self-labeling methods (Asano et al. 2020;
    Caron et al. 2020). All finite scores are safe. Autocast has no effect. Under
    ``torch.func.vmap`` the mapped dimension is a leading one.

    The assignment is a constant: no gradient flows through it, and a UserWarning says so if
    autograd tracks the scores. :func:`crkd.ot.solve` has a gradient.

    - A sample whose scores are all -inf has no effect on the classes and gets the class marginal.
    - A class of marginal 0 gets no samples. A sample of weight 0 has no effect on the classes but
      is assigned like the others.
    - A NaN makes its own problem NaN and no other.

    Args:
        scores: ``(..., N, M)`` floating point, larger is closer, any strides. float16, bfloat16
            and float32 are computed in float32, float64 in float64.
        epsilon: weight of the entropy, above 0, in units of the scores. Smaller is sharper. It must
            be a normal number of the compute dtype, at least 1.2e-38 in float32.
        num_iters: iterations, at least 1.
        class_marginal: ``(M,)`` or ``(..., M)`` or a shape that expands to it, non-negative. It is
            scaled to sum to one; uniform if None. Its values are checked only in host memory,
            because reading them from a device would wait.
        sample_marginal: ``(N,)`` or ``(..., N)``, likewise. With ``group``, the weights of all
            processes must have one common scale.
        backend: "auto" uses the fastest that works for these scores and logs once why others do
            not; a name uses that one.
        relaxation: if given, class masses need not match exactly. The Kullback-Leibler divergence
            from ``class_marginal`` is penalized with this weight, at least 0, in units of the
            scores (Chizat et al. 2018). Large values approach the exact marginal, 0 ignores it.
        group: processes that hold further samples of the same problems. The assignment is that of
            the whole batch. All processes must call.
        storage: torch.float32 or torch.bfloat16, the dtype in which the plan may be stored between
            iterations. bfloat16 halves the memory traffic of problems that do not fit on the chip,
            with an error of about 2e-3 per row. Other backends ignore it.

    Returns:
        The assignment ``(..., N, M)`` in the dtype of the scores, contiguous, non-negative, rows
        sum to one. Class masses match approximately, depending on ``num_iters``, because the sample
        step comes last.

    Raises:
        InputError: an argument is out of range, a marginal does not match the scores, the
            backend is unknown, or the given backend cannot solve this problem.

    >>> scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.6]])
    >>> sinkhorn(scores, epsilon=0.1, num_iters=100).sum(0)
    tensor([1.5000, 1.5000])
    """
    check_tensors(scores=scores, class_marginal=class_marginal, sample_marginal=sample_marginal)
    settings = _Settings(epsilon, num_iters, backend, relaxation, group, storage)
    uniform = class_marginal is None and sample_marginal is None
    if not torch.compiler.is_compiling():
        if scores.requires_grad or not uniform:
            tensors = {
                "scores": scores,
                "class_marginal": class_marginal,
                "sample_marginal": sample_marginal,
            }
            transforms.warn_of_zero_gradient(tensors, _CONSTANT)
        if transforms.active():
            return transforms.solve_transformed(
                scores,
                class_marginal,
                sample_marginal,
                lambda x, b, a: sinkhorn(
                    x, class_marginal=b, sample_marginal=a, **settings._asdict()
                ),
            )
    key = _key(scores, settings) if uniform else None
    known = None if key is None else _bound.get(key)
    if known is not None and scores.device.index == torch.cuda.current_device():
        if scores.ndim == 3:
            return known(scores)
        return known(scores.reshape(-1, *scores.shape[-2:])).reshape(scores.shape)
    with torch.no_grad(), full_precision(scores.device):
        problem = _checked(scores.detach(), class_marginal, sample_marginal, settings)
        if scores.shape[-1] == 0 or (0 in scores.shape and group is None):
            return scores.new_empty(scores.shape)
        chosen = _choose(problem, backend)
        assignment = chosen.solve(problem).reshape(scores.shape)
    # A tensor may change its value, so an equal key could mean another problem.
    if key is not None and not any(isinstance(value, Tensor) for value in settings):
        _remember(key, chosen.bind(problem))
    return assignment


def _key(scores: Tensor, settings: _Settings) -> tuple[object, ...] | None:
    """Return what a bound solver depends on, None if the call cannot use one."""
    if not scores.is_cuda or settings.group is not None or torch.compiler.is_compiling():
        return None
    return (scores.shape, scores.stride(), scores.dtype, scores.device, type(scores), settings)


def _checked(
    scores: Tensor,
    class_marginal: Tensor | None,
    sample_marginal: Tensor | None,
    settings: _Settings,
) -> Problem:
    """Return the problem in three dimensions."""
    epsilon, num_iters, backend, relaxation, group, storage = settings
    check_scores(scores)
    if not 0 < epsilon < math.inf:
        raise InputError(f"epsilon must be a finite number above 0, got {epsilon}")
    check_inverse("epsilon", epsilon, scores)
    if relaxation is not None and not 0 <= relaxation < math.inf:
        raise InputError(
            f"relaxation must be a finite number of at least 0 or None, got {relaxation}"
        )
    if storage not in (torch.float32, torch.bfloat16):
        raise InputError(f"storage must be torch.float32 or torch.bfloat16, got {storage}")
    shape = scores.shape
    n, m = shape[-2:]
    return Problem(
        scores if len(shape) == 3 else scores.reshape(shape[:-2].numel(), n, m),
        # Numbers of NumPy have other sizes than those that the kernels expect.
        float(epsilon),
        checked_count("num_iters", num_iters),
        None if class_marginal is None else marginal("class_marginal", class_marginal, scores, m),
        None
        if sample_marginal is None
        else marginal("sample_marginal", sample_marginal, scores, n, normalize=group is None),
        relaxation,
        group,
        storage,
        strict=backend != "auto",
    )


def _choose(problem: Problem, name: str) -> Backend:
    """Return the backend called ``name``, or for "auto" the fastest without obstacles."""
    if name != "auto":
        chosen = BACKENDS.get(name)
        reasons = chosen.obstacles(problem)
        if reasons:
            raise InputError(f"backend {name!r} cannot be used: {'; '.join(reasons)}")
        return chosen
    if problem.scores.is_cuda:
        cuda = BACKENDS.get("cuda")
        reasons = cuda.obstacles(problem)
        return instead_of_cuda(problem, reasons) if reasons else cuda
    return BACKENDS.get("torch")


def _remember(key: tuple[object, ...], bound: Callable[[Tensor], Tensor] | None) -> None:
    if bound is None:
        return
    if len(_bound) >= 256:
        _bound.clear()
    _bound[key] = bound
