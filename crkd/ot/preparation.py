"""Kernels by their kind: made once, before a CUDA graph captures them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from crkd.ot.problem import Unavailable

Kind = TypeVar("Kind")
Made = TypeVar("Made")


def prepared(
    kind: Kind,
    make: Callable[[Kind], Made],
    *,
    ready: dict[Kind, Made],
    failed: dict[Kind, str],
    kernels: str,
    sizes: str,
) -> Made:
    """Return what ``make`` returned for ``kind``, called once. A failure is not tried again.

    Args:
        kind: properties of the machine code.
        make: compiles and loads the kernels.
        ready: results of earlier calls.
        failed: reasons of earlier failures.
        kernels: the kernels' name in messages, such as "the kernels".
        sizes: the sizes in messages, such as "N=256, M=50".

    Raises:
        Unavailable: the kernels cannot be compiled or loaded.
        RuntimeError: a CUDA graph is being captured; loading would end the capture.
    """
    known = ready.get(kind)
    if known is not None:
        return known
    if kind in failed:
        raise Unavailable(failed[kind])
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"Sinkhorn: {kernels} for {sizes} must be loaded before a CUDA graph captures them; "
            "call sinkhorn once on scores of this shape and type beforehand"
        )
    try:
        made = ready[kind] = make(kind)
    except Exception as error:
        # Compiler, driver and file system raise different types of error.
        first_line = str(error).strip().partition("\n")[0]
        reason = f"{type(error).__name__}: {first_line}"
        failed[kind] = f"{kernels} cannot be compiled or loaded here ({reason})"
        raise Unavailable(failed[kind]) from error
    return made
