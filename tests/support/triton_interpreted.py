"""Solves problems of a file by the Triton kernels in Triton's interpreter, on the processor.

Triton reads TRITON_INTERPRET when it is imported, so this is a program of its own:
``python -m tests.support.triton_interpreted PROBLEMS RESULTS``.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
from triton.runtime import interpreter

from crkd.ot.triton import launches, plans

KERNELS = ("class_sums", "class_potentials", "iteration", "sample_step")


class Counted:
    """A kernel that notes its launches."""

    def __init__(self, name: str, names: list[str]) -> None:
        self.name, self.names, self.kernel = name, names, getattr(launches, name)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        self.names.append(self.name)
        return self.kernel[grid]


def solved(problem: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the assignment of one problem and the names of the kernels that were launched."""
    scores, tiles = problem["scores"], problem.get("plan")
    _, n, m = scores.shape
    call = launches.call_of(
        problem["epsilon"],
        problem["num_iters"],
        problem.get("b"),
        problem.get("a"),
        problem.get("relaxation"),
    )
    out = torch.full(scores.shape, 7.0, dtype=scores.dtype)
    names.clear()
    plan = plans.plan(n, m) if tiles is None else plans.Plan(*tiles)
    launches.solve_into(out, scores, call, plan)
    return {"assignment": out, "launches": list(names)}


def replace_language_once() -> None:
    """Let the interpreter replace the functions of the language once for each module of kernels.

    It searches whole modules for them at every launch and every call of a part, and puts the
    compiler's functions back after each launch. Nothing compiles in this process.
    """
    replace, done = interpreter._patch_lang, dict[str, Any]()

    def replace_once(function: Any) -> Any:
        module = function.__module__
        if module not in done:
            done[module] = replace(function)
        # What a launch has changed, and so puts back: nothing.
        return type(done[module])()

    interpreter._patch_lang = replace_once


def main(problems: str, results: str) -> None:
    """Solve every problem of one file and write the other."""
    torch.set_num_threads(1)
    replace_language_once()
    names: list[str] = []
    for name in KERNELS:
        setattr(launches, name, Counted(name, names))
    with warnings.catch_warnings():
        # NumPy warns where a GPU does not: infinities are part of the method.
        warnings.simplefilter("ignore", RuntimeWarning)
        given = torch.load(problems, weights_only=True)
        torch.save({key: solved(problem, names) for key, problem in given.items()}, results)


if __name__ == "__main__":
    main(*sys.argv[1:])
