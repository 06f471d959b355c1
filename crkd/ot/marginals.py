"""How much of a batch each novel class should receive: uniform, given, or estimated.

Novel classes are rarely equal in size. A prior that follows the running predictions lets the
assignment follow them, at the price of a feedback loop: classes that are predicted more are
assigned more. Smoothing towards the uniform distribution bounds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from crkd.core.errors import InputError


class ClassPrior(Protocol):
    """What the discovery stage asks for the class marginal of its next assignment."""

    def marginal(self) -> Tensor | None:
        """Return ``(M,)`` or ``(H, M)`` float32 that sum to one, or None for uniform."""

    def update(self, probabilities: Tensor) -> None:
        """Take note of predictions ``(..., H, N, M)`` whose rows sum to one."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state_dict` returned."""


class FixedPrior:
    """Class sizes that are known beforehand, or equal."""

    def __init__(self, weights: Tensor | None = None) -> None:
        self._marginal = weights

    def marginal(self) -> Tensor | None:
        """Return ``(M,)`` float32, or None for uniform."""
        return self._marginal

    def update(self, probabilities: Tensor) -> None:
        """Ignore predictions: this prior does not learn."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return nothing: the configuration says it all."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over nothing."""


class EstimatedPrior:
    """Class sizes as the running predictions of each head have them, smoothed.

    The estimate is an exponential moving average of the mean prediction and starts uniform; the
    marginal is its mixture with the uniform distribution. Nothing here waits for a device.

    Args:
        num_heads: H; heads number their classes differently, hence an estimate each.
        num_classes: M.
        momentum: share of the old estimate that an update keeps, in [0, 1).
        smoothing: share of the uniform distribution in the marginal, in [0, 1].
        device: where the estimate lives.

    Raises:
        InputError: a number is out of its range.
    """

    def __init__(
        self,
        num_heads: int,
        num_classes: int,
        *,
        momentum: float = 0.99,
        smoothing: float = 0.3,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 <= momentum < 1:
            raise InputError(f"momentum must lie in [0, 1), got {momentum}")
        if not 0 <= smoothing <= 1:
            raise InputError(f"smoothing must lie in [0, 1], got {smoothing}")
        self.momentum = momentum
        self.smoothing = smoothing
        self._running = torch.full((num_heads, num_classes), 1 / num_classes, device=device)

    @torch.no_grad()
    def update(self, probabilities: Tensor) -> None:
        """Move the estimate towards the mean of predictions ``(..., H, N, M)``."""
        batch = probabilities.float().mean(-2).reshape(-1, *self._running.shape).mean(0)
        self._running.lerp_(batch, 1 - self.momentum)

    def marginal(self) -> Tensor:
        """Return ``(H, M)`` float32, rows sum to one."""
        uniform = 1 / self._running.shape[-1]
        mixed = self._running * (1 - self.smoothing) + uniform * self.smoothing
        return mixed / mixed.sum(-1, keepdim=True)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the running estimate ``(H, M)`` under "running"."""
        return {"running": self._running.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a running estimate of the same shape."""
        self._running.copy_(state["running"])


def class_prior(
    kind: str,
    num_heads: int,
    num_classes: int,
    *,
    weights: Sequence[float] | None = None,
    momentum: float = 0.99,
    smoothing: float = 0.3,
    device: torch.device | str = "cpu",
) -> ClassPrior:
    """Return the prior that a configuration names.

    Args:
        kind: "uniform", "given" or "estimated".
        num_heads: H.
        num_classes: M.
        weights: M relative class sizes, not negative; for "given".
        momentum: see :class:`EstimatedPrior`.
        smoothing: see :class:`EstimatedPrior`.
        device: where the marginal is needed.

    Raises:
        InputError: the kind is unknown or the weights do not fit.

    >>> class_prior("given", 1, 2, weights=[1, 3]).marginal()
    tensor([0.2500, 0.7500])
    """
    if kind == "uniform":
        return FixedPrior()
    if kind == "estimated":
        return EstimatedPrior(
            num_heads, num_classes, momentum=momentum, smoothing=smoothing, device=device
        )
    if kind != "given":
        raise InputError(f"unknown class prior {kind!r}; choose one of: estimated, given, uniform")
    sizes = torch.tensor(weights or [], dtype=torch.float64)
    if len(sizes) != num_classes or not bool((sizes >= 0).all()) or not float(sizes.sum()) > 0:
        raise InputError(
            f"weights of the given class prior must be {num_classes} numbers of at least 0, not "
            f"all 0, got {list(weights or [])}"
        )
    return FixedPrior((sizes / sizes.sum()).float().to(device))
