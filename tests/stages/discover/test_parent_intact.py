"""An incremental step does not change its parent run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.stages.discover.run import discover
from crkd.training.loop import Loop
from tests.support.small_runs import small_config

FURTHER = ("discover.labeled=false",)


def digests(folder: Path) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_step_that_fails_leaves_the_earlier_run_as_it_is(
    stage1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(stage1)

    def broken(self: Loop, batch: object, step: int) -> None:
        raise RuntimeError("the disk went away")

    monkeypatch.setattr(Loop, "step", broken)
    with pytest.raises(RuntimeError, match="went away"):
        discover(small_config(*FURTHER), tmp_path / "step", stage1)
    assert RunFolder(tmp_path / "step").read_info().status == "failed"
    assert digests(stage1) == before


def test_a_run_of_another_version_is_refused_before_anything_is_written(
    stage1: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(stage1, other)
    info = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**info, "schema_version": 99}))
    with pytest.raises(InputError, match=r"schema version 99.*use the version that wrote it"):
        discover(small_config(*FURTHER), tmp_path / "step", other)
    assert not (tmp_path / "step").exists()
