"""Decorators of the Triton kernels."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import triton


def kernel(function: Callable[..., None]) -> Any:
    """Return a Triton kernel whose machine code depends only on its constants and dtypes.

    By default Triton compiles again for values that are one or divisible by 16 and for aligned
    addresses. Scores of a known kind could then need the compiler, which the capture of a CUDA
    graph does not allow.
    """

    def name(specialization: object) -> str:
        # Profilers and sanitizers find our kernels by this prefix.
        return f"sinkhorn_{function.__name__}"

    parameters = inspect.signature(function).parameters.values()
    values = [p.name for p in parameters if p.annotation != "tl.constexpr"]
    return triton.jit(
        function,
        repr=name,
        do_not_specialize=values,
        do_not_specialize_on_alignment=values,
    )


def part(function: Callable[..., Any]) -> Any:
    """Return a function that kernels call."""
    return triton.jit(function)
