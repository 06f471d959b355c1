"""``crkd check-gpu``: run every check that needs a CUDA device, and say pass or fail."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from crkd.commands.flags import Parser
from crkd.core.errors import InputError

DESCRIPTION = """\
Check the GPU code on this machine: kernels against float64, properties, determinism, capture,
views equal to those of the CPU, training steps without synchronisation, mixed precision, a run
saved and resumed. Exit code 1 if one fails.
With --sanitize NVIDIA's compute-sanitizer then watches every kernel once, where it is installed.
"""

SANITIZERS = ("memcheck", "racecheck", "synccheck")
WATCHED = "sinkhorn: each kernel once"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; return 0 if all pass, else 1.

    Raises:
        InputError: there is no CUDA device.
    """
    parser = Parser(prog="crkd check-gpu", description=DESCRIPTION)
    parser.add_argument("--only", metavar="TEXT", default="", help="checks whose name holds TEXT")
    parser.add_argument(
        "--sanitize", action="store_true", help=f"also run {', '.join(SANITIZERS)} (minutes)"
    )
    given = parser.parse_args(arguments)
    # Read when cuBLAS starts; without it no flag makes matrix products repeatable.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    import torch

    if not torch.cuda.is_available():
        raise InputError("no CUDA device is visible here, so nothing was checked; run it on a GPU")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    failed = 0
    for name, check in all_checks():
        if given.only in name:
            failed += not _passes(name, check)
    for name, check in sanitizer_checks() if given.sanitize else []:
        failed += not _passes(name, check)
    print("all checks passed" if not failed else f"{failed} checks FAILED")
    return int(failed > 0)


def all_checks() -> list[tuple[str, Callable[[], str]]]:
    """Return the name and the function of every check; it returns a line or raises."""
    from crkd.data.augment import gpu_checks as views
    from crkd.engine import gpu_checks as training
    from crkd.ot import gpu_checks as assignment

    return [*assignment.checks(), *views.checks(), *training.checks()]


def sanitizer_checks() -> list[tuple[str, Callable[[], str]]]:
    """Return a check for each tool of compute-sanitizer; none, and say so, if it is missing."""
    program = shutil.which("compute-sanitizer", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
    if program is None:
        print("compute-sanitizer is not installed, so memory and races were not watched")
        return []
    return [
        (f"{tool} of {WATCHED}", functools.partial(_sanitized, program, tool))
        for tool in SANITIZERS
    ]


def _sanitized(program: str, tool: str) -> str:
    """Run the checks that launch each kernel once under one tool of compute-sanitizer.

    Raises:
        RuntimeError: it found something; the message is the end of its report.
    """
    check = [sys.executable, "-m", "crkd.commands.main", "check-gpu", "--only", WATCHED]
    # Without PyTorch's cache every tensor is an allocation of its own, whose bounds are known.
    done = subprocess.run(
        [program, "--tool", tool, "--error-exitcode", "9", *check],
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    return "clean"


def _passes(name: str, check: Callable[[], str]) -> bool:
    began = time.monotonic()
    try:
        text, passed = check(), True
    except Exception as error:  # noqa: BLE001 (any failure of a check is its finding)
        text, passed = f"{type(error).__name__}: {error}", False
    seconds = time.monotonic() - began
    print(f"{'pass' if passed else 'FAIL'}  {name} ({seconds:.1f} s): {text}", flush=True)
    return passed
