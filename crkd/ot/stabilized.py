"""Sinkhorn's iterations to a tolerance for the CPU: plain scaling of a plan of known potentials.

One exponential per entry serves several iterations, each of which is two matrix-vector products
with a matrix in the cache. The factors are then absorbed into the potentials (Schmitzer 2019,
section 3.1). Where factors leave the safe range of the dtype, the same iterations are done again
in logarithms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.ot.iteration import State, in_logarithms
from crkd.ot.scaling import SAFE

CACHED = 1 << 17
"""Number of entries processed at once; with their copies they fit a core's cache."""

LOWEST = {torch.float32: -80.0, torch.float64: -690.0}
"""Logarithm below which entries are set to zero; subnormal numbers make a CPU slow."""

BLOCK = 20
"""Iterations between two exponentials."""


def iterate(
    x: Tensor, log_a: Tensor, log_b: Tensor, g: Tensor | None, tol: float, max_iters: int
) -> State:
    """Return what :func:`crkd.ot.iteration.in_logarithms` returns, up to rounding."""
    if x.device.type != "cpu" or len(x) == 0:
        return in_logarithms(x, log_a, log_b, g, tol, max_iters)
    together = max(1, CACHED // x[0].numel())
    parts = [
        _solve(x[part], log_a[part], log_b[part], None if g is None else g[part], tol, max_iters)
        for part in (slice(start, start + together) for start in range(0, len(x), together))
    ]
    return State(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _solve(
    x: Tensor, log_a: Tensor, log_b: Tensor, g: Tensor | None, tol: float, max_iters: int
) -> State:
    """Solve problems that fit the cache; arguments as for :func:`iterate`."""
    if g is None:
        # Equal factors; a sample of weight 0 and a class of marginal 0 have none.
        f, equal = (log.clamp(min=0.0).where(log > -torch.inf, log) for log in (log_a, log_b))
        error = x.new_full((len(x),), torch.inf)
        state = State(f, equal, error, torch.zeros_like(error, dtype=torch.int64))
    else:
        state = in_logarithms(x, log_a, log_b, g, tol, 0)
    while True:
        left = (state.error > tol) & (state.iterations < max_iters)
        if not left.any():
            return state
        some = left.nonzero().flatten()
        # Problems that have not converged have done equally many iterations.
        done = int(state.iterations[some[0]])
        count = min(BLOCK, max_iters - done)
        part = (x, log_a, log_b) if len(some) == len(x) else (x[some], log_a[some], log_b[some])
        new, safe = _block(*part, state.f[some], state.g[some], tol, count)
        _update(state, some[safe], State(*(values[safe] for values in new)))
        unsafe = (~safe).nonzero().flatten()
        if len(unsafe):
            again = some[unsafe]
            start = None if g is None and done == 0 else state.g[again]
            some_x, some_a, some_b = (values[unsafe] for values in part)
            exact = in_logarithms(some_x, some_a, some_b, start, tol, count)
            _update(state, again, exact)


def _update(state: State, some: Tensor, new: State) -> None:
    """Write the results of further iterations of some problems into ``state``."""
    state.f[some], state.g[some], state.error[some] = new.f, new.g, new.error
    state.iterations[some] += new.iterations


def _block(
    x: Tensor, log_a: Tensor, log_b: Tensor, f: Tensor, g: Tensor, tol: float, count: int
) -> tuple[State, Tensor]:
    """Return the state after ``count`` iterations at most, and ``(P,)`` bool, False if unsafe."""
    lowest, safe = LOWEST[x.dtype], SAFE[x.dtype]
    # As in scratch.py, vectors are rows: a and u are (P, 1, N), b and v are (P, 1, M).
    a, b = log_a.exp().mT, log_b.exp()
    no_weight, no_mass = a == 0, b == 0
    kernel = (x + f).add_(g).clamp_(min=lowest).exp_()
    u, v = (~no_weight).to(x.dtype), (~no_mass).to(x.dtype)
    columns = u.bmm(kernel)
    active = x.new_ones(len(x), dtype=torch.bool)
    error, iterations = x.new_zeros(len(x)), x.new_zeros(len(x), dtype=torch.int64)
    usable = active
    for _ in range(count):
        new_v = b / columns
        rows = new_v.bmm(kernel.mT)
        margins = torch.minimum(
            columns.masked_fill(no_mass, torch.inf).amin(-1) / u.amax(-1),
            rows.masked_fill(no_weight, torch.inf).amin(-1) / new_v.amax(-1),
        ).flatten()
        usable = usable & ((margins > safe) | ~active)
        changed = active[:, None, None]
        u, v = torch.where(changed, a / rows, u), torch.where(changed, new_v, v)
        iterations += active
        columns = u.bmm(kernel)
        error = torch.where(active, (v * columns - b).abs().sum((-2, -1)), error)
        active = active & usable & (error > tol)
        if not active.any():
            break
    return State(f + u.log().mT, g + v.log(), error, iterations), usable
