"""``crkd watch`` as a person calls it, with the example run."""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path

import pytest

from crkd.commands.main import run_verb
from crkd.inference.example import RUN
from crkd.inference.watching.watcher import Pass, Watcher
from crkd.review.unknown_images import FOLDER, LIST, PICTURE
from crkd.runs.folder import RunFolder
from tests.support.watched_images import predicted, save_checks, save_digits


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    save_digits(tmp_path / "inbox", 3)
    save_checks(tmp_path / "inbox", 4)
    return tmp_path / "inbox"


def watch(inbox: Path, *words: str) -> int:
    return run_verb("watch", [str(inbox), "--run", str(RUN), "--device", "cpu", *words])


def test_unknown_images_gather_until_there_are_enough(
    inbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = inbox.with_name("inbox-watch")
    assert watch(inbox, "--once", "--enough", "6") == 0
    said = capsys.readouterr().out
    assert "7 new images, 4 fit none of the classes\n" in said
    assert "enough" not in said
    assert not (state / LIST).exists()
    save_checks(inbox, 3, seed=1)
    assert watch(inbox, "--once", "--enough", "6") == 0
    said = capsys.readouterr().out
    assert "3 new images, 3 fit none of the classes\n10 images in all, 7 fit none" in said
    assert "enough unknown images for a further step: 1 group of similar images (7)" in said
    assert f"next: crkd discover --from {RUN} --novel {state / FOLDER} --num-novel 1\n" in said
    assert len(list((state / FOLDER).iterdir())) == 7
    assert (state / PICTURE).is_file()
    assert watch(inbox, "--once", "--enough", "6") == 0
    assert "0 new images" in capsys.readouterr().out
    assert len(predicted(state)) == 10
    # The command extends the run, which was trained on images of a named data set.
    command = shlex.split(said.split("next: ")[1].splitlines()[0])
    assert command[:2] == ["crkd", "discover"]
    step = inbox.with_name("step")
    quick = ["--set", "discover.epochs=1", "--device", "cpu", "--out", str(step)]
    assert run_verb("discover", [*command[2:], *quick]) == 0
    assert [c.name for c in RunFolder(step).read_info().classes][-2:] == ["novel-4", "novel-5"]


def test_predictions_can_be_exported(inbox: Path) -> None:
    assert watch(inbox, "--once") == 0
    table, out = (
        inbox.with_name("inbox-watch") / "predictions.jsonl",
        inbox.with_name("labels.json"),
    )
    words = ["--format", "fiftyone", "--predictions", str(table), "--all", "--out", str(out)]
    assert run_verb("export", [str(RUN), *words]) == 0
    labels = json.loads(out.read_text())["labels"]
    assert labels.keys() == {str(image) for image in inbox.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_same_command_continues(
    inbox: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    honest, passes = Watcher.look, list[Pass]()

    def look(watcher: Watcher, *arguments: object) -> Pass:
        passes.append(honest(watcher, *arguments))
        save_checks(inbox, 1, seed=len(passes))
        if len(passes) == 3:
            os.kill(os.getpid(), number)
        return passes[-1]

    monkeypatch.setattr(Watcher, "look", look)
    assert watch(inbox, "--interval", "0.001") == 130
    assert [done.predicted for done in passes] == [7, 1, 1]
    said = capsys.readouterr()
    assert said.err.startswith("crkd watch: stopped; the same command continues: ")
    assert said.out.count("new image") == 3
    monkeypatch.setattr(Watcher, "look", honest)
    assert watch(inbox, "--once") == 0
    assert "1 new image, 1 fit none" in capsys.readouterr().out


def test_nothing_is_printed_for_a_pass_without_news(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest, count = Watcher.look, 0

    def look(watcher: Watcher, *arguments: object) -> Pass:
        nonlocal count
        count += 1
        if count == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(watcher, *arguments)

    monkeypatch.setattr(Watcher, "look", look)
    assert watch(inbox, "--interval", "0.001", "--enough", "4") == 130
    said = capsys.readouterr().out
    assert said.count("in all") == 1
    assert said.count("enough unknown images") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--interval", "0"], "--interval 0.0 is not above 0"),
        (["--interval", "nan"], "--interval nan is not above 0"),
        (["--enough", "1"], "--enough 1 is below 2"),
        (["--state", "inbox/state"], "contain each other"),
        (["--run", "missing"], "missing is not a run folder"),
    ],
)
def test_bad_arguments_are_refused(
    inbox: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(inbox.parent)
    assert watch(Path("inbox"), "--once", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert sorted(path.name for path in inbox.parent.iterdir()) == ["inbox"]


def test_a_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(tmp_path / "none", "--once") == 2
    assert "is not a folder; check the path" in capsys.readouterr().err
