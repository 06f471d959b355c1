"""Files of a run folder when its run becomes complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.lock import LOCK
from crkd.runs.sample_digests import FILE as SAMPLES


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of each file of a run folder, without those of an unfinished run."""
    files = (file for file in folder.iterdir() if file.is_file())
    return {file.name: file.read_bytes() for file in files if file.name not in (LOCK, SAMPLES)}


def files_at_completion(patch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Return :func:`files_of` of the next run that becomes complete; empty until then."""
    found: dict[str, bytes] = {}
    honest = RunFolder.write_info

    def write_info(run: RunFolder, info: RunInfo) -> None:
        honest(run, info)
        if info.status == "complete":
            found.update(files_of(run.path))

    patch.setattr(RunFolder, "write_info", write_info)
    return found
