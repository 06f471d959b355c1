"""``crkd check-gpu``: all checks that need a CUDA device."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from crkd.core.errors import InputError
from crkd.core.watched import Job, Report, run_in_process, watched

DESCRIPTION = """\
Test the GPU code on this machine: accuracy of the kernels against float64,
determinism, CUDA graphs, augmentation against the CPU, training steps without
synchronization, mixed precision, and resumed runs. The exit code is 1 if a
check fails.

The checks run in a separate process. A check that hangs or crashes fails, and
the other checks still run. --sanitize also runs every kernel once under
NVIDIA's compute-sanitizer, which must be installed.
"""

CHECK_SECONDS = 120.0
SANITIZERS = ("memcheck", "racecheck", "synccheck")
SANITIZER_SECONDS = 170.0
"""Time limit of one tool. All three then end within ten minutes."""

FOUND = 9
"""Exit code of the sanitizer if it finds an error."""

WATCHED = "sinkhorn: each kernel once"
INVALID = "sinkhorn: an invalid write on purpose"
"""Name of the check that a sanitizer must not pass."""

OURS = "sinkhorn_"
"""Prefix of the names of our kernels. The sanitizer checks only these."""

CHECKS = "crkd.commands.check_gpu:jobs"
SANITIZER_CHECKS = "crkd.commands.check_gpu:sanitizer_jobs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="run only the checks whose name contains TEXT"
    )
    parser.add_argument(
        "--sanitize",
        action="store_true",
        help=f"also run the tools {', '.join(SANITIZERS)}, which takes minutes",
    )
    parser.add_argument("--json", metavar="FILE", help="write the results as a JSON list")
    parser.add_argument(
        "--check-seconds",
        metavar="N",
        type=float,
        default=CHECK_SECONDS,
        help=f"time limit of a check (default: {CHECK_SECONDS:g})",
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="run in this process, e.g. for a debugger; a check then has no time limit",
    )


def run(given: argparse.Namespace) -> int:
    """Run the checks; return 0 if all pass, else 1.

    Raises:
        InputError: there is no CUDA device, or a flag is invalid.
    """
    if not given.check_seconds > 0:
        raise InputError(f"--check-seconds is {given.check_seconds:g}; give a number above 0")
    # Read when cuBLAS starts; without it no flag makes matrix products repeatable.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    import torch

    if not torch.cuda.is_available():
        raise InputError(
            "no CUDA device is visible here, so nothing was checked; use a machine with a GPU"
        )
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    if given.in_process:
        reports = run_in_process(partial(jobs, given.only))
    else:
        reports = watched(CHECKS, {"only": given.only}, given.check_seconds)
    failed = _tell(chain(reports, _sanitizer_reports() if given.sanitize else ()), given.json)
    print("all checks passed" if not failed else f"{failed} checks FAILED")
    return int(failed > 0)


def all_checks() -> list[tuple[str, Callable[[], str]]]:
    """Return the name and the function of every check. The function returns a line or raises."""
    from crkd.gpu_checks import augment as views
    from crkd.gpu_checks import sinkhorn as assignment
    from crkd.gpu_checks import sinkhorn_triton as triton
    from crkd.gpu_checks import training

    return [*assignment.checks(), *triton.checks(), *views.checks(), *training.checks()]


def jobs(only: str) -> list[Job]:
    """Return the checks whose name contains a text as jobs. Each job yields one line."""
    if only == INVALID:
        from crkd.gpu_checks.sinkhorn_launches import invalid_write

        return [Job(INVALID, partial(_line, invalid_write))]
    return [Job(name, partial(_line, check)) for name, check in all_checks() if only in name]


def sanitizer_jobs(program: str) -> list[Job]:
    """Return one check for each tool of compute-sanitizer, and one that it checks our kernels.

    Args:
        program: path of compute-sanitizer.
    """
    control = Job(f"memcheck finds {INVALID}", partial(_line, partial(_found, program, INVALID)))
    tools = [
        Job(f"{tool} of {WATCHED}", partial(_line, partial(_sanitized, program, tool)))
        for tool in SANITIZERS
    ]
    return [control, *tools]


def sanitizer_command(program: str, tool: str, only: str = WATCHED) -> list[str]:
    """Return the command that launches each kernel once under one tool."""
    # In the same process, since the sanitizer may not follow child processes.
    check = [sys.executable, "-m", "crkd.commands.main", "check-gpu", "--in-process"]
    return [
        *(program, "--tool", tool, "--kernel-name", f"kernel_substring={OURS}"),
        *("--error-exitcode", str(FOUND), *check, "--only", only),
    ]


def _line(check: Callable[[], str]) -> Iterator[str]:
    yield check()


def _sanitizer_reports() -> Iterator[Report]:
    """Yield the report of each tool of compute-sanitizer; a failure if it is not installed."""
    program = shutil.which("compute-sanitizer", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
    if program is None:
        # A requested check that did not run must not look like a pass.
        reason = "compute-sanitizer is not installed, so memory and races were not checked"
        yield Report("compute-sanitizer", reason=reason)
        return
    yield from watched(SANITIZER_CHECKS, {"program": program}, SANITIZER_SECONDS)


def _sanitized(program: str, tool: str) -> str:
    """Run the checks that launch each kernel once under one tool of compute-sanitizer.

    Returns:
        The tool's summary.

    Raises:
        RuntimeError: it found an error; the message is the end of its report.
    """
    code, output = _run(sanitizer_command(program, tool))
    if code != 0:
        raise RuntimeError(f"exit code {code}\n{output[-3000:]}")
    summaries = [line.strip("= ") for line in output.splitlines() if "SUMMARY" in line]
    return summaries[-1] if summaries else "exit code 0, but no summary"


def _found(program: str, only: str) -> str:
    """Run a check with a known error under memcheck, which must find it.

    Raises:
        RuntimeError: memcheck did not find it, so the tools may not check our kernels.
    """
    code, output = _run(sanitizer_command(program, "memcheck", only))
    if code != FOUND:
        raise RuntimeError(f"exit code {code}, not {FOUND}: our kernels are not checked\n{output}")
    return "found"


def _run(command: list[str]) -> tuple[int, str]:
    """Run a tool; return its exit code and its output."""
    # Without PyTorch's cache every tensor is a separate allocation with known bounds.
    done = subprocess.run(
        command,
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _tell(reports: Iterable[Report], file: str | None) -> int:
    """Print each report and write the reports so far to a file; return the failure count."""
    from crkd.runs.atomic_files import write_json

    results: list[dict[str, Any]] = []
    if file is not None:
        write_json(Path(file), results)
    for report in reports:
        passed = report.reason is None
        text = report.value if passed else report.reason
        state = "pass" if passed else "FAIL"
        print(f"{state}  {report.job} ({report.seconds:.1f} s): {text}", flush=True)
        seconds = round(report.seconds, 1)
        results.append({"name": report.job, "passed": passed, "seconds": seconds, "text": text})
        if file is not None:
            write_json(Path(file), results)
    return sum(not one["passed"] for one in results)
