"""POT's own tests of its Sinkhorn solvers, with this project's solver in place of POT's.

A checkout of POT has the tests: ``git clone https://github.com/PythonOT/POT``. A test counts if it
calls a function that :mod:`benchmarks.pot_adaptor` replaces. The result lists the tests that do not
pass, with the reason.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pot_adaptor import Adaptor
from benchmarks.rows import row
from crkd.core.errors import InputError

FILES = ("test/test_bregman.py", "test/batch/test_solve_batch.py")
COMMAND = "CRKD_POT=FOLDER crkd bench pot-tests --json FILE"


class Counted:
    """A plug-in of pytest that notes the result of every test that calls the adaptor.

    Attributes:
        results: test to the reason of its failure, None for a test that passed.
    """

    def __init__(self, adaptor: Adaptor) -> None:
        self.results: dict[str, str | None] = {}
        self._adaptor = adaptor

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Run a test and note its result."""
        before = self._adaptor.calls
        reason = "interrupted"
        try:
            yield
            reason = None
        except BaseException as error:
            first = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {first[0] if first else ''}"
            raise
        finally:
            if self._adaptor.calls > before:
                self.results[item.name] = reason


def rows() -> Iterator[dict[str, Any]]:
    """Yield one row: the number of tests that pass, and as baseline that of all that count."""
    folder = _folder()
    results = run(folder, FILES)
    failed = {name: reason for name, reason in results.items() if reason is not None}
    yield {
        **row(
            "pot-tests",
            "tests",
            "tests of POT for its Sinkhorn solvers that pass",
            len(results) - len(failed),
            len(results),
            complete=False,
        ),
        "failed": failed,
        "source": _commit(folder),
        "command": COMMAND,
    }


def run(folder: Path, files: tuple[str, ...]) -> dict[str, str | None]:
    """Run test files of a folder with the adaptor and return their results.

    Args:
        folder: checkout of POT.
        files: paths in it.

    Raises:
        InputError: the tests could not be collected.
    """
    adaptor = Adaptor()
    counted = Counted(adaptor)
    options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-c", os.devnull]
    with adaptor.in_place():
        code = pytest.main(
            [*options, f"--rootdir={folder}", *(str(folder / name) for name in files)],
            plugins=[counted],
        )
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise InputError(f"the tests of {folder} could not be run: pytest ended with {code!r}")
    return counted.results


def _folder() -> Path:
    """Return the checkout of POT that the environment names."""
    given = os.environ.get("CRKD_POT")
    if not given:
        raise InputError("CRKD_POT is not set; give the folder of a checkout of POT")
    folder = Path(given).resolve()
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(f"CRKD_POT is {given!r}, which has no {name}; give a checkout of POT")
    return folder


def _commit(folder: Path) -> str:
    """Return the commit of a checkout, or that it is unknown."""
    asked = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"
