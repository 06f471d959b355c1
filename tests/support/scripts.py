"""Scripts run as the main program, in this process: torch need not be imported again."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest


def run_script(file: Path, *arguments: str) -> object:
    """Run a file as ``python FILE ARGUMENTS`` does and return its exit code; 0 is success."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(file), *arguments])
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as ended:
            return ended.code or 0
    return 0
