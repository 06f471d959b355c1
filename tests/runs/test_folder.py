from __future__ import annotations

from pathlib import Path

import pytest

from crkd.core.atomic_write import UNFINISHED
from crkd.core.errors import InputError
from crkd.runs.folder import check_free
from tests.support.untrained_runs import untrained_run


def refusal(folder: Path, *, resumable: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        check_free(folder, resumable=resumable)
    return str(caught.value)


def test_the_place_of_a_new_run_must_be_free(tmp_path: Path) -> None:
    check_free(tmp_path / "absent")
    check_free(tmp_path)
    (tmp_path / f".model.x{UNFINISHED}").write_text("")
    check_free(tmp_path)
    (tmp_path / "mine.txt").write_text("")
    assert refusal(tmp_path) == f"--out {tmp_path} holds files already; name another folder"
    assert "is a file" in refusal(tmp_path / "mine.txt")


def test_a_run_that_is_there_is_called_finished_or_not(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run")
    assert refusal(run.path) == f"--out {run.path} holds a finished run; name another folder"
    info = run.read_info()
    info.status = "running"
    run.write_info(info)
    assert "an unfinished run; continue it with --resume or name another" in refusal(run.path)
    # A command without the flag does not suggest it.
    assert "--resume" not in refusal(run.path, resumable=False)
    (run.path / "run.json").write_text("{}")
    assert "holds files already" in refusal(run.path)
