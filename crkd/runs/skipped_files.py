"""The list of files that a command could not read: ``NAME.skipped.csv`` next to its output."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from crkd.core.atomic_write import write_bytes
from crkd.runs.csv_cells import escape_formula


def skipped_file(out: Path) -> Path:
    """Return the place of the list of skipped files for an output file."""
    return out.with_name(f"{out.stem}.skipped.csv")


def list_skipped(path: Path, skipped: Mapping[str, str]) -> None:
    """Write the list of skipped files; without any, a list of an earlier call is deleted.

    Args:
        path: the list.
        skipped: reason for each file.
    """
    if not skipped:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    rows = [(escape_formula(name), escape_formula(reason)) for name, reason in skipped.items()]
    csv.writer(text).writerows([("path", "reason"), *rows])
    write_bytes(path, text.getvalue().encode())
