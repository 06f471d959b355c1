"""Class marginals of the assignment: uniform, given, or estimated.

Novel classes rarely have equal sizes. A prior can follow the running predictions, but this is a
feedback loop: classes that are predicted more are assigned more. Smoothing towards the uniform
distribution limits it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crkd.core.errors import InputError


class ClassPrior(nn.Module, ABC):
    """Class marginal of the next assignment.

    It is a module, so its state is moved, saved and restored with the rest of the run.
    """

    @abstractmethod
    def marginal(self) -> Tensor | None:
        """Return ``(M,)`` or ``(H, M)`` float32 that sum to one, or None for uniform."""

    @abstractmethod
    def update(self, probabilities: Tensor) -> None:
        """Update the prior with predictions ``(..., H, N, M)`` whose rows sum to one."""


class FixedPrior(ClassPrior):
    """Class sizes that are given, or equal.

    Args:
        weights: ``(M,)`` float32 that sum to one; None for equal sizes.
    """

    weights: Tensor | None

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def marginal(self) -> Tensor | None:
        """Return ``(M,)`` float32, or None for uniform."""
        return self.weights

    def update(self, probabilities: Tensor) -> None:
        """Ignore predictions, because this prior is fixed."""


class EstimatedPrior(ClassPrior):
    """Class sizes estimated from the running predictions of each head, smoothed.

    The estimate is an exponential moving average of the mean prediction. It starts at the expected
    sizes, and the marginal is its mixture with them. No operation waits for a device.

    Args:
        num_heads: H; each head has its own estimate, because heads number classes differently.
        num_classes: M.
        momentum: fraction of the old estimate that an update keeps, in [0, 1).
        smoothing: fraction of the expected sizes in the marginal, in [0, 1].
        expected: ``(M,)`` sizes that sum to one; None for equal sizes.
        device: device of the estimate.

    Raises:
        InputError: a number is out of range, or there is not one expected size per class.
    """

    running: Tensor
    expected: Tensor

    def __init__(
        self,
        num_heads: int,
        num_classes: int,
        *,
        momentum: float = 0.99,
        smoothing: float = 0.3,
        expected: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 <= momentum < 1:
            raise InputError(f"momentum must be in [0, 1), got {momentum}")
        if not 0 <= smoothing <= 1:
            raise InputError(f"smoothing must be in [0, 1], got {smoothing}")
        super().__init__()
        self.momentum = momentum
        self.smoothing = smoothing
        if expected is None:
            expected = torch.full(
                (num_classes,), 1 / num_classes, dtype=torch.float32, device=device
            )
        if expected.shape != (num_classes,):
            raise InputError(
                f"expected must have shape ({num_classes},), one size per class, got "
                f"{tuple(expected.shape)}"
            )
        sizes = expected.float().to(device)
        self.register_buffer("running", sizes.repeat(num_heads, 1))
        # A function of the arguments, not a state.
        self.register_buffer("expected", sizes, persistent=False)

    @torch.no_grad()
    def update(self, probabilities: Tensor) -> None:
        """Move the estimate towards the mean of predictions ``(..., H, N, M)``.

        Without samples it stays, and so does that of a head with predictions that are not finite.
        Otherwise one bad step would spoil all later ones.
        """
        if probabilities.numel() == 0:
            return
        batch = probabilities.float().mean(-2).reshape(-1, *self.running.shape).mean(0)
        usable = batch.isfinite().all(-1, keepdim=True)
        self.running.lerp_(torch.where(usable, batch, self.running), 1 - self.momentum)

    def marginal(self) -> Tensor:
        """Return ``(H, M)`` float32, rows sum to one."""
        mixed = self.running * (1 - self.smoothing) + self.expected * self.smoothing
        return mixed / mixed.sum(-1, keepdim=True)


def class_prior(
    kind: str,
    num_heads: int,
    num_classes: int,
    *,
    weights: Sequence[float] | None = None,
    momentum: float = 0.99,
    smoothing: float = 0.3,
    expected: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> ClassPrior:
    """Return the prior of a configuration.

    Args:
        kind: "uniform", "given" or "estimated".
        num_heads: H.
        num_classes: M.
        weights: M relative class sizes, not negative; for "given".
        momentum: see :class:`EstimatedPrior`.
        smoothing: see :class:`EstimatedPrior`.
        expected: ``(M,)`` sizes that sum to one, which "uniform" and "estimated" take instead of
            equal sizes; None for equal sizes.
        device: device of the marginal.

    Raises:
        InputError: the kind is unknown or the weights are invalid.

    >>> class_prior("given", 1, 2, weights=[1, 3]).marginal()
    tensor([0.2500, 0.7500])
    """
    if kind == "uniform":
        return FixedPrior(None if expected is None else expected.float().to(device))
    if kind == "estimated":
        return EstimatedPrior(
            num_heads,
            num_classes,
            momentum=momentum,
            smoothing=smoothing,
            expected=expected,
            device=device,
        )
    if kind != "given":
        raise InputError(f"unknown class prior {kind!r}; choose one of: estimated, given, uniform")
    sizes = torch.tensor(weights or [], dtype=torch.float64, device="cpu")
    usable = len(sizes) == num_classes and bool((sizes >= 0).all())
    if not usable or not 0 < float(sizes.sum()) < math.inf:
        raise InputError(
            f"weights of the given class prior must be {num_classes} numbers of at least 0, not "
            f"all 0, with a finite sum, got {list(weights or [])}"
        )
    return FixedPrior((sizes / sizes.sum()).float().to(device))
