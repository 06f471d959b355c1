"""Short forms for ``make test``; ``make reliability`` sets CRKD_LONG and runs the long ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crkd.runs.provenance import git_commit
from tests.support.fuzzing import EXAMPLES, Tally

if TYPE_CHECKING:
    from tests.support.reliability import Record

# A program of its own, which needs an extra.
collect_ignore = ["coverage_guided.py"]


@pytest.fixture(scope="session")
def record() -> Record:
    """Note a check's results and the commit in the file that CRKD_RECORD names, if it does."""
    name = os.environ.get("CRKD_RECORD")

    def note(check: str, **results: object) -> None:
        if name is not None:
            file = Path(name)
            known = json.loads(file.read_text()) if file.exists() else {}
            entry = {**results, "commit": git_commit()}
            file.write_text(json.dumps({**known, check: entry}, indent=2) + "\n")

    return note


@pytest.fixture
def tally(request: pytest.FixtureRequest, record: Record) -> Iterator[Tally]:
    counts = Tally()
    yield counts
    record(f"fuzz {request.node.name}", read=counts.read, refused=counts.refused)
    assert counts.refused > EXAMPLES // 20
    assert counts.read > 0
