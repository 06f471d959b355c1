"""A watch that ends at any write and starts again has the results of an uninterrupted one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from crkd.inference.example import RUN
from crkd.inference.watching.predictor import ImagePredictor
from crkd.inference.watching.state import FEATURES, WatchState
from crkd.inference.watching.watcher import Watcher
from crkd.review.unknown_images import FOLDER, LIST, PICTURE, write_unknown
from crkd.runs import appended_lines
from crkd.runs.folder import RunFolder
from tests.support.forked import in_fork
from tests.support.watch_runs import killed_watches
from tests.support.watched_images import predicted

ENOUGH = 4


class KilledError(BaseException):
    """In place of SIGKILL: nothing catches it on the way."""


def watch(inbox: Path, state: Path, predictor: ImagePredictor) -> None:
    """Do one pass and write the files of the unknown images."""
    state.mkdir(exist_ok=True)
    watcher = Watcher(WatchState(state, RunFolder(RUN), inbox), predictor, ENOUGH)
    watcher.look()
    write_unknown(state, inbox, watcher.groups(), RUN)


def end_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """End the process at a write, counted from 0; return the function that counts the writes.

    An append is cut in the middle of a line. A file that is replaced gets no name.
    """
    count = -1
    append, replace, link = appended_lines.AppendedLines.append, os.replace, os.link

    def is_the_end() -> bool:
        nonlocal count
        count += 1
        return count == number

    def appended(lines: appended_lines.AppendedLines, values: list[dict[str, object]]) -> None:
        append(lines, values)
        if values and is_the_end():
            os.truncate(lines.path, lines.path.stat().st_size - 7)
            raise KilledError

    def replaced(old: str, new: Path) -> None:
        if is_the_end():
            raise KilledError
        replace(old, new)

    def linked(old: Path, new: Path) -> None:
        link(old, new)
        if is_the_end():
            raise KilledError

    monkeypatch.setattr(appended_lines.AppendedLines, "append", appended)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "link", linked)
    return lambda: count + 1


def contents(state: Path) -> dict[str, object]:
    """Return the results; the files that only grow may have repeated lines."""
    return {
        "predictions": predicted(state),
        "outliers": set((state / FEATURES).read_text().splitlines()),
        "list": (state / LIST).read_text().replace(str(state), "STATE"),
        "picture": (state / PICTURE).read_bytes(),
        "folder": sorted(path.name for path in (state / FOLDER).iterdir()),
        "unfinished": list(state.rglob("*.unfinished")),
    }


@pytest.mark.parametrize("batch_size", [2, 16])
def test_an_end_at_any_write_changes_nothing(
    inbox: Path, predictor: ImagePredictor, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr("crkd.inference.watching.watcher.BATCH_SIZE", batch_size)
    # The picture takes most of the time and is the same in all cases.
    monkeypatch.setattr("crkd.review.unknown_images._picture", lambda *_: b"picture")
    straight = inbox.with_name("straight")
    with monkeypatch.context() as patch:
        writes = end_at(-1, patch)
        watch(inbox, straight, predictor)
        total = writes()
    assert total >= 10
    expected = contents(straight)
    assert expected["unfinished"] == []
    for number in range(total):
        state = inbox.with_name(f"state{number}")
        with monkeypatch.context() as patch:
            end_at(number, patch)
            with pytest.raises(KilledError):
                watch(inbox, state, predictor)
        watch(inbox, state, predictor)
        assert contents(state) == expected, f"write {number}"


def test_killed_processes_lose_and_repeat_nothing(inbox: Path) -> None:
    signals = in_fork(killed_watches, inbox, inbox.parent)
    assert len(signals) >= 3
    assert set(signals) == {signal.SIGKILL}
    assert predicted(inbox.parent / "killed") == predicted(inbox.parent / "straight")
