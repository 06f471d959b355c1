"""``discover --decisions``: a review that is applied on the way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from crkd.commands.main import run_verb
from crkd.review.run_outputs import Evidence
from crkd.runs.folder import RunFolder
from tests.support.completed_files import files_at_completion, files_of
from tests.support.review_decisions import applied, write_decisions

CPU = torch.device("cpu")


def test_discover_continues_from_the_decisions(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(evidence.opened.run.path, run)
    file = write_decisions(
        tmp_path / "d.json", evidence, [{"id": 2, "action": "accept", "name": "apple"}]
    )
    command = ["--from", str(run), "--decisions", str(file)]
    assert run_verb("discover", command) == 0
    named = tmp_path / "run-reviewed"
    assert "apple" in [entry.name for entry in RunFolder(named).read_info().classes]
    seen: list[Path] = []

    def further(config: Any, out: Path, parent: Path, **options: Any) -> RunFolder:
        seen.append(parent)
        return RunFolder(named)

    monkeypatch.setattr("crkd.stages.discover.run.discover", further)
    later = [*command, "--novel", str(tmp_path), "--num-novel", "1", "--out", str(tmp_path / "x")]
    assert run_verb("discover", later) == 0
    assert seen == [named], "the same decisions make one run"
    write_decisions(file, evidence, [{"id": 2, "action": "accept", "name": "pear"}])
    assert run_verb("discover", command) == 0
    assert (tmp_path / "run-reviewed-2").is_dir()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "x"], "--out needs --novel DIR; use crkd apply-review"),
        (["--num-novel", "2"], "--num-novel needs --novel DIR"),
        (["--out", "x", "--resume"], "--out needs --novel DIR"),
        (["--resume"], "--resume needs --novel DIR"),
        (["--features", "x.parquet"], "--features does not go with --decisions"),
        (["--features", "x.parquet", "--novel", "."], "--features does not go with --decisions"),
        (["--novel", "nowhere", "--num-novel", "2"], "--novel 'nowhere' does not exist"),
        (["--novel", ".", "--resume"], "--resume needs --out"),
        (["--novel", ".", "--out", "taken"], "--out taken holds files already"),
        (["--novel", ".", "--num-novel", "many"], "'discover.num_novel' is 'many'; it must be"),
        (["--novel", "."], "add --num-novel K, or --num-novel auto"),
        (["--novel", ".", "--num-novel", "2", "--set", "loop.speed=9"], "loop.speed"),
        (["--novel", ".", "--num-novel", "2", "--method", "heads"], "--method is for own"),
    ],
)
def test_flags_are_checked_before_decisions_are_applied(
    evidence: Evidence,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("precious")
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    monkeypatch.setattr("crkd.review.reviewed_run.named_run", lambda *_, **__: pytest.fail("works"))
    file = write_decisions(tmp_path / "d.json", evidence, [])
    command = ["--from", str(evidence.opened.run.path), "--decisions", str(file), *flags]
    assert run_verb("discover", command) == 2
    assert message in capsys.readouterr().err


def test_decisions_without_their_run_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("discover", ["--decisions", str(tmp_path / "d.json")]) == 2
    assert "--decisions is given without --from" in capsys.readouterr().err


def test_nothing_is_written_after_the_reviewed_run_is_complete(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed afterwards leaves a whole run."""
    complete = files_at_completion(monkeypatch)
    named = applied(tmp_path, evidence, [], flags=("--images", "csv"))
    assert complete.keys() >= {"model.safetensors", "labels.csv"}
    assert files_of(named) == complete
