"""POT's Sinkhorn functions computed by :func:`crkd.ot.solve` and :func:`crkd.ot.solve_batch`.

The functions have the arguments and results of those in ``ot.bregman`` and ``ot.batch``, so tests
that POT's developers wrote for their solvers run with ours. POT's greedy algorithm and
``ot.solve`` stay as they are, and tests compare with them. POT's epsilon scaling calls ours.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from ot.backend import get_backend
from ot.utils import OTResult, list_to_array
from torch import Tensor

from crkd.ot import Solution, solve, solve_batch

SMALLEST = sys.float_info.min
"""In place of a tolerance of 0, at which POT warns and ``solve`` does not."""


class NotExpressedError(Exception):
    """A call asks for something that ``solve`` does not have."""


class Adaptor:
    """Functions in place of POT's.

    Attributes:
        calls: number of calls so far.
    """

    def __init__(self) -> None:
        self.calls = 0

    def sinkhorn(
        self,
        a: Any,
        b: Any,
        M: Any,
        reg: float,
        *,
        numItermax: int = 1000,
        stopThr: float = 1e-9,
        log: bool = False,
        warn: bool = True,
        warmstart: Any = None,
        starts_from_costs: bool = False,
        **_others: Any,
    ) -> Any:
        """Solve as ``ot.bregman.sinkhorn_log``: the plan, or one loss for each column of ``b``.

        ``starts_from_costs`` as in ``ot.bregman.sinkhorn_stabilized``: the potentials of
        ``warmstart`` are in units of the costs, not divided by ``reg``.
        """
        self.calls += 1
        a, b, M = list_to_array(a, b, M)
        nx = get_backend(M, a, b)
        if any(isinstance(x, Tensor) and x.requires_grad for x in (a, b)):
            raise NotExpressedError("gradient with respect to a marginal")
        cost = torch.as_tensor(M)
        columns = torch.as_tensor(b)
        if columns.ndim > 1:
            # Several targets for one cost matrix are problems that share it.
            columns = columns.mT
            cost = cost.expand(len(columns), *cost.shape)
        with warnings.catch_warnings():
            if not warn:
                warnings.simplefilter("ignore")
            solution = solve(
                -cost,
                epsilon=reg,
                tol=max(stopThr, SMALLEST),
                max_iters=numItermax,
                sample_marginal=torch.as_tensor(a) if len(a) else None,
                class_marginal=columns if len(b) else None,
                class_potentials=None
                if warmstart is None
                else torch.as_tensor(warmstart[1]) * (1.0 if starts_from_costs else reg),
                gradient=cost.requires_grad,
            )
        found = solution.plan if cost.ndim == 2 else (solution.plan * cost).sum((-2, -1))
        found = found if isinstance(M, Tensor) else found.numpy()
        return (found, _log(solution, reg, nx, M)) if log else found

    def batch(
        self,
        M: Any,
        reg: float,
        a: Any = None,
        b: Any = None,
        max_iter: int = 1000,
        tol: float = 1e-5,
        grad: str = "envelope",
        **_others: Any,
    ) -> OTResult:
        """Solve as ``ot.batch.solve_batch``.

        Both kinds of its ``reg_type`` have the same plan, as all marginals sum to one.
        """
        self.calls += 1
        nx = get_backend(M)
        cost = torch.as_tensor(M)
        solution = solve_batch(
            cost,
            reg,
            None if a is None else torch.as_tensor(a),
            None if b is None else torch.as_tensor(b),
            max_iter=max_iter,
            tol=max(tol, SMALLEST),
            gradient=cost.requires_grad and grad in ("autodiff", "last_step"),
        )
        plan = solution.plan
        value = ((cost.detach() if grad == "detach" else cost) * plan).sum((-2, -1))
        potentials = (solution.sample_potentials, solution.class_potentials)
        if not isinstance(M, Tensor):
            plan, value = plan.numpy(), value.numpy()
            potentials = (potentials[0].numpy(), potentials[1].numpy())
        return OTResult(value_linear=value, plan=plan, potentials=potentials, backend=nx)

    def projection(self, K: Any, a: Any = None, b: Any = None, **options: Any) -> dict[str, Any]:
        """Scale kernels ``(B, N, M)`` as ``ot.batch.bregman_projection_batch``."""
        return self.log_projection(get_backend(K).log(K), a, b, **options)

    def log_projection(
        self, K: Any, a: Any = None, b: Any = None, **options: Any
    ) -> dict[str, Any]:
        """Scale logarithms of kernels as ``ot.batch.bregman_log_projection_batch``."""
        found = self.batch(-K, 1.0, a, b, **options)
        return {"T": found.plan, "potentials": found.potentials}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the context, POT's functions are those of this object.

        They are replaced wherever ``ot``, ``ot.bregman`` and ``ot.batch`` have them, but not in
        ``ot.solvers``, which tests compare with.
        """
        import ot.batch
        import ot.bregman

        ours = {
            ot.bregman.sinkhorn_knopp: self.sinkhorn,
            ot.bregman.sinkhorn_log: self.sinkhorn,
            ot.bregman.sinkhorn_stabilized: partial(self.sinkhorn, starts_from_costs=True),
            ot.batch.solve_batch: self.batch,
            ot.batch.bregman_projection_batch: self.projection,
            ot.batch.bregman_log_projection_batch: self.log_projection,
        }
        changed = []
        for name, module in list(sys.modules.items()):
            if name != "ot" and not name.startswith(("ot.bregman", "ot.batch")):
                continue
            for key, value in list(vars(module).items()):
                if callable(value) and value in ours:
                    changed.append((module, key, value))
                    setattr(module, key, ours[value])
        try:
            yield
        finally:
            for module, key, value in changed:
                setattr(module, key, value)


def _log(solution: Solution, reg: float, nx: Any, like: Any) -> dict[str, Any]:
    """Return what POT's functions log: scalings, their logarithms, potentials, errors."""
    f, g = solution.sample_potentials, solution.class_potentials
    if f.ndim > 1:
        f, g = f.mT, g.mT
    if not isinstance(like, Tensor):
        f, g = f.numpy(), g.numpy()
    log_u, log_v = f / reg, g / reg
    return {
        "err": [float(solution.marginal_error.max())],
        "niter": int(solution.iterations.max()),
        "log_u": log_u,
        "log_v": log_v,
        "u": nx.exp(log_u),
        "v": nx.exp(log_v),
        "alpha": f,
        "beta": g,
    }
