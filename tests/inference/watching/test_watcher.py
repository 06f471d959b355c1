from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
import torch

from crkd.core.errors import InputError
from crkd.inference.example import RUN
from crkd.inference.predict import predict
from crkd.inference.table import read
from crkd.inference.watching import files, watching
from crkd.inference.watching.predictor import ImagePredictor
from crkd.inference.watching.state import SKIPPED, WatchState
from crkd.inference.watching.watcher import Watcher
from crkd.runs.folder import RunFolder
from tests.support.untrained_runs import untrained_run
from tests.support.watched_images import predicted, save_checks

CPU = torch.device("cpu")


def opened(inbox: Path, predictor: ImagePredictor, enough: int = 3) -> Watcher:
    """Open the state again, as a new process does."""
    state = inbox.with_name("state")
    state.mkdir(exist_ok=True)
    return Watcher(WatchState(state, RunFolder(RUN), inbox), predictor, enough)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will hold the name of each file that is read."""
    honest, names = files.read_regular, list[str]()

    def noted(path: Path) -> bytes:
        names.append(path.name)
        return honest(path)

    monkeypatch.setattr(files, "read_regular", noted)
    return names


def test_the_table_is_that_of_predict(inbox: Path, predictor: ImagePredictor) -> None:
    done = opened(inbox, predictor).look()
    assert (done.predicted, done.outliers, done.waiting) == (9, 4, 0)
    out = inbox.with_name("predictions.json")
    predict(RUN, [inbox], out, device=CPU)
    expected = {row.path: row for row in read(out)}
    table = predicted(inbox.with_name("state"))
    assert [line["path"] for line in table] == list(expected)
    for line in table:
        row = expected[line["path"]]
        assert (line["class_name"], line["outlier"]) == (row.class_name, row.outlier)
        assert line["confidence"] == pytest.approx(row.confidence, abs=2e-6)
        assert line["outlier"] == line["file"].startswith("checks/")


def test_no_image_is_read_or_predicted_twice(
    inbox: Path, predictor: ImagePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(inbox, predictor).look()
    names = reads(monkeypatch)
    for _ in range(2):
        watcher = opened(inbox, predictor)
        assert watcher.look().predicted == 0
        assert (watcher.state.num_images, len(watcher.state.outliers)) == (9, 4)
    assert names == []
    (new,) = save_checks(inbox, 1, seed=1)
    assert watcher.look().predicted == 1
    assert names == [new.name]


def test_a_touched_file_is_read_but_not_predicted(
    inbox: Path, predictor: ImagePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(inbox, predictor).look()
    os.utime(inbox / "digit0.png", ns=(1, 1))
    names = reads(monkeypatch)
    for _ in range(2):
        assert opened(inbox, predictor).look().predicted == 0
    assert names == ["digit0.png"]
    assert len(predicted(inbox.with_name("state"))) == 9


def test_new_content_of_a_file_is_a_new_image(inbox: Path, predictor: ImagePredictor) -> None:
    watcher = opened(inbox, predictor)
    watcher.look()
    shutil.copy(inbox / "digit1.png", inbox / "checks" / "check0-0.png")
    os.utime(inbox / "checks" / "check0-0.png", ns=(1, 1))
    assert watcher.look().predicted == 1
    for each in (watcher, opened(inbox, predictor)):
        assert (each.state.num_images, len(each.state.outliers)) == (9, 3)
    assert len(predicted(inbox.with_name("state"))) == 10, "the earlier prediction is kept"


def test_a_growing_file_waits_until_it_is_whole(inbox: Path, predictor: ImagePredictor) -> None:
    content = (inbox / "digit0.png").read_bytes()
    path = inbox / "grows.png"
    for size in (0, 20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        done = opened(inbox, predictor).look()
        assert (done.waiting, done.unreadable) == (1, {})
    path.write_bytes(content)
    done = opened(inbox, predictor).look()
    assert (done.predicted, done.waiting) == (1, 0)


def test_a_file_that_changes_while_it_is_read_waits(
    inbox: Path, predictor: ImagePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = files.read_regular

    def growing(path: Path) -> bytes:
        content = honest(path)
        if path.name == "digit0.png":
            path.write_bytes((inbox / "digit1.png").read_bytes())
        return content

    monkeypatch.setattr(files, "read_regular", growing)
    watcher = opened(inbox, predictor)
    done = watcher.look()
    assert (done.predicted, done.waiting) == (8, 1)
    monkeypatch.setattr(files, "read_regular", honest)
    assert watcher.look().predicted == 1


def test_unreadable_files_are_listed_once(inbox: Path, predictor: ImagePredictor) -> None:
    bad, skipped = inbox / "bad.png", inbox.with_name("state") / SKIPPED
    bad.write_bytes(b"no image")
    os.mkfifo(inbox / "pipe.png")
    assert opened(inbox, predictor).look().unreadable == {}
    assert set(opened(inbox, predictor).look().unreadable) == {str(bad), str(inbox / "pipe.png")}
    watcher = opened(inbox, predictor)
    assert watcher.look().unreadable == {}
    assert watcher.state.num_skipped == 2
    rows = list(csv.DictReader(skipped.read_text().splitlines()))
    assert [row["path"] for row in rows] == [str(bad), str(inbox / "pipe.png")]
    (inbox / "pipe.png").unlink()
    shutil.copy(inbox / "digit0.png", bad)
    assert opened(inbox, predictor).look().predicted == 1
    assert not skipped.exists()


def test_odd_file_names(inbox: Path, predictor: ImagePredictor) -> None:
    names = [b"caf\xe9.png", "naïve 猫.png".encode(), b"line\nbreak.png"]
    for name in names:
        shutil.copy(inbox / "digit0.png", os.path.join(os.fsencode(inbox), name))
    assert opened(inbox, predictor).look().predicted == 12
    assert opened(inbox, predictor).look().predicted == 0


def test_an_odd_file_name_waits_too(inbox: Path, predictor: ImagePredictor) -> None:
    path = Path(os.fsdecode(os.fsencode(inbox) + b"/caf\xe9.png"))
    path.write_bytes((inbox / "digit0.png").read_bytes()[:-1])
    assert opened(inbox, predictor).look().waiting == 1
    assert opened(inbox, predictor).look().predicted == 1


@pytest.mark.parametrize("name", ["waiting.json", "watch.json"])
def test_a_damaged_state_is_refused(inbox: Path, predictor: ImagePredictor, name: str) -> None:
    (inbox / "cut.png").write_bytes(b"")
    opened(inbox, predictor).look()
    (inbox.with_name("state") / name).write_text("[]")
    with pytest.raises(InputError, match=rf"{name} in --state holds \[\] and no block"):
        opened(inbox, predictor)


def test_similar_outliers_are_a_group(inbox: Path, predictor: ImagePredictor) -> None:
    assert opened(inbox, predictor, enough=5).look().predicted == 9
    assert opened(inbox, predictor, enough=5).groups() == []
    watcher = opened(inbox, predictor, enough=4)
    (group,) = watcher.groups()
    assert {o.file for o in group} == {f"checks/check0-{n}.png" for n in range(4)}
    # A copy is the same picture, and a deleted one cannot be used.
    shutil.copy(inbox / "checks" / "check0-0.png", inbox / "copy.png")
    watcher.look()
    assert [len(each) for each in watcher.groups()] == [4]
    (inbox / "checks" / "check0-1.png").unlink()
    assert watcher.groups() == []


def test_a_stop_keeps_what_is_predicted(
    inbox: Path, predictor: ImagePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crkd.inference.watching.watcher.BATCH_SIZE", 2)
    asked = iter([False] * 5 + [True])
    done = opened(inbox, predictor).look(lambda: next(asked))
    assert (done.complete, done.predicted) == (False, 5)
    assert opened(inbox, predictor).look().predicted == 4


def test_another_run_is_refused(inbox: Path, predictor: ImagePredictor) -> None:
    opened(inbox, predictor).look()
    other = untrained_run(inbox.with_name("other"))
    with pytest.raises(InputError, match=r"was made with another run .*name another --state"):
        WatchState(inbox.with_name("state"), other, inbox)
    renamed = inbox.with_name("renamed")
    shutil.copytree(RUN, renamed)
    WatchState(inbox.with_name("state"), RunFolder(renamed), inbox)
    text = (renamed / "run.json").read_text().replace('"novel-0"', '"five"')
    (renamed / "run.json").write_text(text)
    with pytest.raises(InputError, match="was made with another run"):
        WatchState(inbox.with_name("state"), RunFolder(renamed), inbox)


def test_another_folder_is_refused(inbox: Path, predictor: ImagePredictor) -> None:
    opened(inbox, predictor).look()
    with pytest.raises(InputError, match=r"is of the images in .*inbox"):
        WatchState(inbox.with_name("state"), RunFolder(RUN), inbox.with_name("elsewhere"))


def test_a_file_with_a_cut_end_is_predicted_if_it_stays_so(
    inbox: Path, predictor: ImagePredictor
) -> None:
    content = (inbox / "digit0.png").read_bytes()
    (inbox / "cut.png").write_bytes(content[:-1])
    assert opened(inbox, predictor).look().waiting == 1
    assert opened(inbox, predictor).look().predicted == 1


def test_a_folder_of_other_files_is_refused(inbox: Path) -> None:
    (inbox.parent / "mine").mkdir()
    (inbox.parent / "mine" / "file").touch()
    with (
        pytest.raises(InputError, match="holds other files"),
        watching(inbox, RUN, inbox.parent / "mine", device=CPU),
    ):
        pass


@pytest.mark.parametrize("state", ["inbox", "inbox/checks/state", "."])
def test_a_state_inside_of_the_images_is_refused(inbox: Path, state: str) -> None:
    with (
        pytest.raises(InputError, match="contain each other"),
        watching(inbox, RUN, inbox.parent / state, device=CPU),
    ):
        pass


def test_a_run_that_cannot_tell_outliers_is_refused(inbox: Path) -> None:
    run, state = untrained_run(inbox.with_name("run")), inbox.with_name("state")
    with (
        pytest.raises(InputError, match="cannot tell images that fit none of its classes"),
        watching(inbox, run.path, state, device=CPU),
    ):
        pass
    assert not state.exists()


def test_a_second_watch_is_refused(inbox: Path) -> None:
    state = inbox.with_name("state")
    with (
        watching(inbox, RUN, state, device=CPU),
        pytest.raises(InputError, match=r"--state: .* is in use by process"),
        watching(inbox, RUN, state, device=CPU),
    ):
        pass
