"""A watch with a discovery on vectors: the images are embedded as those of the run were."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from crkd.commands.main import main
from crkd.inference.predict import predict
from crkd.inference.table import read
from crkd.inference.watching import watching
from crkd.runs.folder import RunFolder
from tests.support.untrained_runs import save_noise
from tests.support.watched_images import predicted

CPU = torch.device("cpu")
UNKNOWN = 12


@pytest.fixture
def inbox(photographs: Path, tmp_path: Path) -> Path:
    """Images of the known and of the discovered classes, and images of noise."""
    shutil.copytree(photographs.parent / "known", tmp_path / "inbox" / "known")
    shutil.copytree(photographs.parent / "novel", tmp_path / "inbox" / "novel")
    for number in range(UNKNOWN):
        save_noise(tmp_path / "inbox" / "noise" / f"{number}.png", number, side=24)
    return tmp_path / "inbox"


def test_rows_are_those_of_predict(photographs: Path, inbox: Path, tmp_path: Path) -> None:
    with watching(inbox, photographs, tmp_path / "state", device=CPU) as watcher:
        done = watcher.look()
    out = tmp_path / "predictions.json"
    predict(photographs, [inbox], out, device=CPU)
    table = predicted(tmp_path / "state")
    assert done.predicted == len(table) == 40 + UNKNOWN
    for line, row in zip(table, read(out), strict=True):
        assert all(line[name] == value for name, value in vars(row).items()), row.path
    noise = [line["outlier"] for line in table if line["file"].startswith("noise/")]
    assert all(noise)


def test_the_printed_command_discovers_the_unknown_images(
    photographs: Path,
    inbox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(inbox), "--run", str(photographs), "--state", "state", "--once"]
    assert main(["watch", *words, "--enough", "10"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("next: ")]
    command = shlex.split(line.removeprefix("next: "))
    assert main([*command[1:], "--out", "further"]) == 0
    info = RunFolder(tmp_path / "further").read_info()
    before = json.loads((photographs / "run.json").read_text())["classes"]
    assert len(info.classes) > len(before)
