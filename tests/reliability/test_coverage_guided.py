"""Readers under atheris, which looks for inputs that reach new lines; only in the long form."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.reliability import LONG, Record

RUNS = 20_000
SCRIPT = Path(__file__).with_name("coverage_guided.py")
TARGETS = re.findall(r'^    "(\w+)": (?:in_run)?\(', SCRIPT.read_text(), re.MULTILINE)


def test_the_targets_are_those_of_the_script() -> None:
    assert len(TARGETS) == len(set(TARGETS)) == 11


@pytest.mark.skipif(not LONG, reason="long form only")
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is missing")
@pytest.mark.parametrize("target", TARGETS)
def test_new_lines_are_looked_for(target: str, tmp_path: Path, record: Record) -> None:
    flags = [f"-runs={RUNS}", "-seed=1", "-timeout=60"]
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), target, str(tmp_path / "seeds"), *flags],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    done = re.search(r"#(\d+)\s+DONE\s+cov: (\d+)", ended.stderr)
    assert done is not None, ended.stderr[-3000:]
    record(f"coverage-guided {target}", runs=int(done[1]), lines_reached=int(done[2]), errors=0)
