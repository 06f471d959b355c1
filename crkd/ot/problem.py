"""Transport problem after all checks, and the backend interface."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from crkd.core.registry import Registry

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_log = logging.getLogger(__name__)
_logged: set[str] = set()


class Problem(NamedTuple):
    """P transport problems of one shape.

    Attributes:
        scores: ``(P, N, M)`` with any strides.
        epsilon: weight of the entropy, above 0.
        num_iters: number of column and row steps, at least 1.
        class_marginal: ``(M,)`` or ``(P, M)``, each row sums to one; None means uniform.
        sample_marginal: ``(N,)`` or ``(P, N)``, on any common scale; None means uniform.
        relaxation: weight rho of the KL penalty that replaces the class constraint; None
            keeps the constraint exact.
        group: processes that hold the other samples of the same problems, or None.
        storage: dtype in which a backend may store the plan between iterations.
        strict: whether the caller named the backend, so that no other may be used.
    """

    scores: Tensor
    epsilon: float
    num_iters: int
    class_marginal: Tensor | None
    sample_marginal: Tensor | None
    relaxation: float | None
    group: ProcessGroup | None
    storage: torch.dtype = torch.float32
    strict: bool = False

    @property
    def compute_dtype(self) -> torch.dtype:
        """float64 for float64 scores, float32 for all others."""
        return torch.float64 if self.scores.dtype == torch.float64 else torch.float32

    @property
    def exponent(self) -> float:
        """Power of the class step: rho / (rho + epsilon), 1 for the exact constraint."""
        if self.relaxation is None:
            return 1.0
        return self.relaxation / (self.relaxation + self.epsilon)


class Backend(NamedTuple):
    """One method of solving a :class:`Problem`.

    Attributes:
        obstacles: returns the reasons why the backend cannot solve the problem on this machine; an
            empty list means that it can.
        solve: returns the assignment ``(P, N, M)`` in the dtype of the scores.
        bind: after a problem was solved, returns a function that solves further ones that differ
            only in the values of their scores, without checks; or None.
    """

    obstacles: Callable[[Problem], list[str]]
    solve: Callable[[Problem], Tensor]
    bind: Callable[[Problem], Callable[[Tensor], Tensor] | None] = lambda problem: None


BACKENDS: Registry[Backend] = Registry("OT backend", "crkd.ot.backends", "crkd.ot")


def has_values(tensor: Tensor) -> bool:
    """Return whether code may depend on the values of ``tensor``; a tracer knows no values."""
    return not (torch.compiler.is_compiling() or tensor.is_meta or isinstance(tensor, FakeTensor))


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast, which would compute matrix products in a short type."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


class Unavailable(RuntimeError):
    """Kernels cannot be compiled or loaded on this machine; the message says why."""


def instead_of_cuda(problem: Problem, reasons: list[str]) -> Backend:
    """Return the backend that replaces the CUDA kernels for ``reasons``, and log once why.

    It is Triton if possible, else PyTorch.
    """
    triton = BACKENDS.get("triton")
    obstacles = triton.obstacles(problem)
    if obstacles:
        return torch_instead([*reasons, *obstacles])
    _warn_once("Triton takes over from the CUDA kernels: " + "; ".join(reasons))
    return triton


def torch_instead(reasons: list[str]) -> Backend:
    """Return the PyTorch backend that replaces the kernels for ``reasons``, and log once why."""
    _warn_once("PyTorch takes over from the CUDA and Triton kernels: " + "; ".join(reasons))
    return BACKENDS.get("torch")


def _warn_once(message: str) -> None:
    # Tracing a call of a logger would break the graph; an eager call says it.
    if message not in _logged and not torch.compiler.is_compiling():
        _logged.add(message)
        _log.warning(message)
