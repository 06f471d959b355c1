from __future__ import annotations

from pathlib import Path

import pytest

from crkd.core.atomic_write import UNFINISHED
from crkd.core.errors import InputError
from crkd.runs.folder import MAX_CONFIG, RunFolder, check_free
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


def test_a_parent_whose_path_is_not_utf8_comes_back(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run")
    info = run.read_info()
    info.parent = {"path": "photos-\udcff/stage-1", "model_sha256": "0" * 64, "seed": 0}
    run.write_info(info)
    assert RunFolder(run.path).read_info().parent == info.parent
    # No bytes of a path are read as this surrogate.
    info.parent["path"] = "photos-\ud800"
    run.write_info(info)
    with pytest.raises(InputError, match=r"'path': a path of at most 10000 characters"):
        run.read_info()


def test_a_long_configuration_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run")
    with (run.path / "config.yaml").open("a") as file:
        file.write("#" * MAX_CONFIG)
    with pytest.raises(InputError, match=r"config\.yaml has 3\.0 MiB, but at most 3\.0 MiB"):
        run.read_config()
