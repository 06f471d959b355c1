"""Provenance of a run: command, commit, device and versions."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import crkd
from crkd.core.paths import CHECKOUT
from crkd.runs.folder import RunInfo


def versions() -> dict[str, str]:
    """Return the versions of all packages that affect results; absent packages are left out.

    An imported package says which build it is, such as "2.9.0+cu128"; the index of installed
    packages can lack the build.
    """
    found = {"python": platform.python_version(), "crkd": crkd.__version__}
    for package in ("torch", "torchvision", "numpy", "scikit-learn", "pot", "faiss-cpu", "timm"):
        version = _version(package)
        if version is not None:
            found[package] = str(getattr(sys.modules.get(package), "__version__", version))
    return found


@functools.cache
def _version(package: str) -> str | None:
    """Return the version of an installed package, None for an absent one."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit of the checkout this code runs from, "+changes" if it was edited.

    ``$CRKD_COMMIT`` names it where neither git nor the repository is at hand, as on a machine to
    which the working tree alone was copied.
    """
    named = os.environ.get("CRKD_COMMIT")
    if named:
        return named
    if not (CHECKOUT / ".git").exists():
        return None
    try:
        lines = [
            subprocess.run(
                ["git", "-C", str(CHECKOUT), *command],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return lines[0] + ("+changes" if lines[1] else "")


def command_line() -> str:
    """Return the command that started this process, without the interpreter's own path."""
    import shlex

    program = Path(sys.argv[0]).name if sys.argv else "crkd"
    return shlex.join([program, *sys.argv[1:]])


def parent_entry(path: Path, info: RunInfo) -> dict[str, Any]:
    """Return the entry in ``run.json`` of the run that another started from.

    Args:
        path: its folder.
        info: its description.
    """
    return {
        "path": str(path),
        "model_sha256": info.model_sha256 or "",
        "seed": info.seed,
        "seconds": info.seconds,
    }


def seed_note(info: RunInfo, seed: int) -> list[str]:
    """Return a note if the run that another started from has another seed; else none.

    Args:
        info: of the earlier run.
        seed: of the new run.
    """
    if info.seed == seed:
        return []
    earlier = "stage 1" if info.kind == "supervised" else "the earlier run"
    return [f"{earlier} has seed {info.seed}, this run has seed {seed}"]
