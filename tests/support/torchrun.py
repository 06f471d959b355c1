"""``torchrun`` in a fork, whose workers are forks too; none of them imports torch again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest
import torch.distributed.run as launcher

from tests.support import ROOT

WORKERS = ("--standalone", "--nproc-per-node", "2", "--start-method", "fork", "--run-path")


def torchrun(place: Path, tool: str, *arguments: str) -> int:
    """Run a script of ``tools`` in two processes, which write their ids into ``place``."""
    honest = launcher.run_script_path

    def worker(*words: str) -> None:
        (place / f"process{os.environ['RANK']}").write_text(str(os.getpid()))
        # A worker that is a fork returns; the program of a fresh process ends at once.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "_exit", _end)
            try:
                honest(*words)
            except SystemExit as end:
                if end.code:
                    raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "run_script_path", worker)
        launcher.main([*WORKERS, str(ROOT / "tools" / f"{tool}.py"), *arguments])
    return 0


def _end(code: int) -> NoReturn:
    raise SystemExit(code)
