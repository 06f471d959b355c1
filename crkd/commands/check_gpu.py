"""``crkd check-gpu``: run every check that needs a CUDA device, and say pass or fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from crkd.commands.flags import Parser
from crkd.core.errors import InputError
from crkd.core.watched import Job, Report, done_here, watched

DESCRIPTION = """\
Check the GPU code on this machine: kernels against float64, properties, determinism, capture,
views equal to those of the CPU, training steps without synchronization, mixed precision, a run
saved and resumed. Exit code 1 if one fails. The checks run in a process of their own: one that
hangs or crashes fails, and the others still run.
With --sanitize NVIDIA's compute-sanitizer then watches every kernel once; it must be installed.
"""

CHECK_SECONDS = 120.0
SANITIZERS = ("memcheck", "racecheck", "synccheck")
SANITIZER_SECONDS = 170.0
"""For one tool: all three then end within ten minutes, whatever happens."""

FOUND = 9
"""Exit code of the sanitizer when it has found something."""

WATCHED = "sinkhorn: each kernel once"
OURS = "sinkhorn_"
"""How the names of our kernels begin; the sanitizer watches no others."""

CHECKS = "crkd.commands.check_gpu:jobs"
SANITIZER_CHECKS = "crkd.commands.check_gpu:sanitizer_jobs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; return 0 if all pass, else 1.

    Raises:
        InputError: there is no CUDA device, or a flag has no meaning.
    """
    parser = Parser(prog="crkd check-gpu", description=DESCRIPTION)
    parser.add_argument("--only", metavar="TEXT", default="", help="checks whose name holds TEXT")
    parser.add_argument(
        "--sanitize", action="store_true", help=f"also run {', '.join(SANITIZERS)} (minutes)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results as a JSON list")
    parser.add_argument(
        "--check-seconds",
        metavar="N",
        type=float,
        default=CHECK_SECONDS,
        help=f"give up a check after N seconds (default: {CHECK_SECONDS:g})",
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="check in this process, as a debugger needs it; nothing ends a check that hangs",
    )
    given = parser.parse_args(arguments)
    if not given.check_seconds > 0:
        raise InputError(f"--check-seconds is {given.check_seconds:g}; give a number above 0")
    # Read when cuBLAS starts; without it no flag makes matrix products repeatable.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    import torch

    if not torch.cuda.is_available():
        raise InputError("no CUDA device is visible here, so nothing was checked; run it on a GPU")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    if given.in_process:
        reports = done_here(partial(jobs, given.only))
    else:
        reports = watched(CHECKS, {"only": given.only}, given.check_seconds)
    failed = _tell(chain(reports, _sanitizer_reports() if given.sanitize else ()), given.json)
    print("all checks passed" if not failed else f"{failed} checks FAILED")
    return int(failed > 0)


def all_checks() -> list[tuple[str, Callable[[], str]]]:
    """Return the name and the function of every check; it returns a line or raises."""
    from crkd.gpu_checks import augment as views
    from crkd.gpu_checks import sinkhorn as assignment
    from crkd.gpu_checks import training

    return [*assignment.checks(), *views.checks(), *training.checks()]


def jobs(only: str) -> list[Job]:
    """Return the checks whose name holds a text as jobs, each of which yields its line."""
    from crkd.gpu_checks.sinkhorn_launches import INVALID, invalid_write

    if only == INVALID:
        return [Job(INVALID, partial(_line, invalid_write))]
    return [Job(name, partial(_line, check)) for name, check in all_checks() if only in name]


def sanitizer_jobs(program: str) -> list[Job]:
    """Return a check for each tool of compute-sanitizer, and one that it watches our kernels.

    Args:
        program: path of compute-sanitizer.
    """
    from crkd.gpu_checks.sinkhorn_launches import INVALID

    control = Job(f"memcheck finds {INVALID}", partial(_line, partial(_found, program, INVALID)))
    tools = [
        Job(f"{tool} of {WATCHED}", partial(_line, partial(_sanitized, program, tool)))
        for tool in SANITIZERS
    ]
    return [control, *tools]


def sanitizer_command(program: str, tool: str, only: str = WATCHED) -> list[str]:
    """Return what runs the checks that launch each kernel once under one tool."""
    # In that very process, since the sanitizer need not follow into a child.
    check = [sys.executable, "-m", "crkd.commands.main", "check-gpu", "--in-process"]
    return [
        *(program, "--tool", tool, "--kernel-name", f"kernel_substring={OURS}"),
        *("--error-exitcode", str(FOUND), *check, "--only", only),
    ]


def _line(check: Callable[[], str]) -> Iterator[str]:
    yield check()


def _sanitizer_reports() -> Iterator[Report]:
    """Yield what each tool of compute-sanitizer found; a failure if it is not installed."""
    program = shutil.which("compute-sanitizer", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
    if program is None:
        # Asked for and not done must not read as clean.
        reason = "compute-sanitizer is not installed, so memory and races were not watched"
        yield Report("compute-sanitizer", reason=reason)
        return
    yield from watched(SANITIZER_CHECKS, {"program": program}, SANITIZER_SECONDS)


def _sanitized(program: str, tool: str) -> str:
    """Run the checks that launch each kernel once under one tool of compute-sanitizer.

    Returns:
        The tool's summary.

    Raises:
        RuntimeError: it found something; the message is the end of its report.
    """
    code, told = _run(sanitizer_command(program, tool))
    if code != 0:
        raise RuntimeError(f"exit code {code}\n{told[-3000:]}")
    summaries = [line.strip("= ") for line in told.splitlines() if "SUMMARY" in line]
    return summaries[-1] if summaries else "exit code 0, but no summary"


def _found(program: str, only: str) -> str:
    """Run a check with an error under memcheck, which must find it.

    Raises:
        RuntimeError: it did not: what the tools call clean, they may not have watched.
    """
    code, told = _run(sanitizer_command(program, "memcheck", only))
    if code != FOUND:
        raise RuntimeError(f"exit code {code}, not {FOUND}: our kernels are not watched\n{told}")
    return "found"


def _run(command: list[str]) -> tuple[int, str]:
    """Run a tool; return its exit code and what it printed."""
    # Without PyTorch's cache every tensor is an allocation of its own, whose bounds are known.
    done = subprocess.run(
        command,
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _tell(reports: Iterable[Report], file: str | None) -> int:
    """Print a line for each check, and write all so far to a file; return how many failed."""
    from crkd.runs.atomic_files import write_json

    told: list[dict[str, Any]] = []
    if file is not None:
        write_json(Path(file), told)
    for report in reports:
        passed = report.reason is None
        text = report.value if passed else report.reason
        state = "pass" if passed else "FAIL"
        print(f"{state}  {report.job} ({report.seconds:.1f} s): {text}", flush=True)
        seconds = round(report.seconds, 1)
        told.append({"name": report.job, "passed": passed, "seconds": seconds, "text": text})
        if file is not None:
            write_json(Path(file), told)
    return sum(not one["passed"] for one in told)
