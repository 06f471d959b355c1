"""The list of a GPU day: done in order, in slices, with what is cut continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.gpu_checks import day as gpu_day
from crkd.gpu_checks.day import ATTEMPTS, Day
from crkd.gpu_checks.day_steps import EXPERIMENTS, Place, Step, avoided, steps
from crkd.stages.reproduce import reproduce
from tests.support.forked import ForkedCommand

SCRIPT = """\
import json, os, pathlib, sys, time
kind, file, count = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[2] + ".count")
number = int(count.read_text()) if count.exists() else 0
count.write_text(str(number + 1))
if kind == "hangs" or (kind == "is cut once" and number == 0):
    import signal
    handler = signal.SIG_IGN if kind == "hangs" else lambda number, frame: sys.exit(130)
    signal.signal(signal.SIGTERM, handler)
    print("begun", flush=True)
    pathlib.Path(sys.argv[2] + ".begun").write_text(str(os.getpid()))
    time.sleep(600)
if kind == "fails":
    sys.exit(7)
if kind == "crashes":
    raise RuntimeError(kind)
file.write_text(json.dumps([{"number": number}]))
sys.exit(1 if kind == "is red" else 0)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place whose steps run the script above in the place of ``crkd``."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(gpu_day, "PROGRAM", (sys.executable, str(script)))
    return Place(tmp_path / "state", tmp_path / "out", "cpu")


class AskedToStop:
    """A process that is asked to stop when ``is_up`` says so, however slow the machine is."""

    is_up: Callable[[], bool]
    limits: list[float]
    waits = 0
    # Of the process itself.
    args: Sequence[str]
    returncode: int | None
    poll: Callable[[], int | None]

    def wait(self, timeout: float | None = None) -> int:
        self.waits += 1
        if self.waits == 1:
            assert timeout is not None
            self.limits.append(timeout)
            while self.poll() is None and not self.is_up():
                time.sleep(0.01)
            if self.returncode is None:
                raise subprocess.TimeoutExpired(self.args, timeout)
        return super().wait(timeout)  # type: ignore[misc]


def ask_to_stop_when(
    wanted: Callable[[], Any], patch: pytest.MonkeyPatch, process: type = subprocess.Popen
) -> list[float]:
    """Let the day ask one process to stop, as soon as something is there.

    Args:
        wanted: what is there.
        patch: changes the day.
        process: class of its processes.

    Returns:
        The seconds after which the day wanted to ask each process; filled while it works.
    """
    limits: list[float] = []
    asked = []

    def is_up() -> bool:
        if asked or not wanted():
            return False
        asked.append(True)
        return True

    kind = type("Popen", (AskedToStop, process), {"is_up": staticmethod(is_up), "limits": limits})
    patch.setattr(gpu_day, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": kind}))
    return limits


def listed(*kinds: str, seconds: float = 60, resumable: bool = False):  # type: ignore[no-untyped-def]
    def list_of(place: Place, failed_checks: object) -> list[Step]:
        return [
            Step(
                kind,
                (kind, str(place.state / f"{i}.json")),
                seconds,
                f"{i}.json",
                f"{i}.json",
                resumable=resumable,
            )
            for i, kind in enumerate(kinds)
        ]

    return list_of


def statuses(day: Day) -> list[str]:
    return [outcome.status for outcome in day.outcomes()]


def test_steps_are_done_in_order_and_copied(place: Place) -> None:
    said: list[str] = []
    day = Day(place, listed("works", "is red", "works too"), said.append)
    assert day.work(120)
    assert statuses(day) == ["done", "red", "done"]
    assert {path.name for path in place.out.iterdir()} == {"day.json", "0.json", "1.json", "2.json"}
    begun = [line.split(":")[0] for line in said if "starts" in line]
    assert begun == ["works", "is red", "works too"]


def test_finished_steps_are_not_done_again(place: Place) -> None:
    list_of = listed("works", "is red")
    assert Day(place, list_of).work(120)
    assert Day(place, list_of).work(120)
    assert json.loads((place.out / "0.json").read_text()) == [{"number": 0}]


def test_a_step_that_fails_is_tried_again_and_then_left_out(place: Place) -> None:
    list_of = listed("fails", "works")
    for attempt in range(1, ATTEMPTS + 1):
        day = Day(place, list_of)
        assert day.work(120) == (attempt == ATTEMPTS)
        assert statuses(day) == ["failed", "done"]
        assert day.outcomes()[0].failures == attempt


def test_a_crash_next_to_an_earlier_result_is_a_failure(place: Place) -> None:
    """Seeds of an experiment write one file, and a traceback has the exit code of a red result."""

    def list_of(place: Place, failed_checks: object) -> list[Step]:
        first = listed("works")(place, failed_checks)[0]
        return [first, replace(first, name="crashes", arguments=("crashes", first.arguments[1]))]

    day = Day(place, list_of)
    assert not day.work(120)
    assert statuses(day) == ["done", "failed"]


def test_the_named_data_are_used_whatever_the_environment_says(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRKD_DATA", "other")
    monkeypatch.setenv("CRKD_CACHE", "cache")
    found = Day(replace(place, data_root="data"), listed("works"))._environment()
    assert (found["CRKD_DATA"], found["CRKD_CACHE"]) == ("data", "cache")
    assert Day(place, listed("works"))._environment()["CRKD_DATA"] == "other"


def test_a_step_that_hangs_is_killed_and_the_next_one_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_day, "GRACE", 0.3)
    limits = ask_to_stop_when((place.state / "0.json.begun").exists, monkeypatch)
    day = Day(place, listed("hangs", "works", seconds=0.4))
    assert not day.work(60)
    assert statuses(day) == ["failed", "done"]
    assert "begun" in day.outcomes()[0].text
    assert len(limits) == 2
    assert all(limit <= 0.4 - 0.3 for limit in limits)


def test_a_step_that_is_cut_continues_in_the_next_call(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_to_stop_when((place.state / "0.json.begun").exists, monkeypatch)
    list_of = listed("is cut once", "works", seconds=60, resumable=True)
    day = Day(place, list_of)
    assert not day.work(90)
    assert statuses(day) == ["cut", "done"]
    assert Day(place, list_of).work(120)
    assert json.loads((place.out / "0.json").read_text()) == [{"number": 1}]


def test_a_long_step_waits_for_the_next_call(place: Place) -> None:
    """A step that cannot be cut begins only where its whole limit is left."""
    list_of = listed("works", "works again", seconds=100)
    day = Day(place, list_of)
    assert not day.work(100 + gpu_day.MARGIN / 2)
    assert statuses(day) == ["done", "open"]
    assert Day(place, list_of).work(120)


def test_what_needs_data_waits_for_them(place: Place, tmp_path: Path) -> None:
    """Files may come in parts: everything else is done before CIFAR-100 is complete."""

    def list_of(place: Place, failed_checks: object) -> list[Step]:
        data, other = listed("works", "works without")(place, failed_checks)
        return [replace(data, needs_data=True), other]

    said: list[str] = []
    empty = replace(place, data_root=str(tmp_path))
    day = Day(empty, list_of, said.append)
    assert not day.work(120)
    assert statuses(day) == ["open", "done"]
    assert "steps that need CIFAR-100 wait: data set 'cifar100' was not found" in said[0]
    waiting = [step.name for step in steps(place) if step.needs_data]
    assert waiting[:2] == ["smoke", "train"]
    assert len(waiting) == 2 + 3 * len(EXPERIMENTS)


def test_a_state_that_is_damaged_is_named(place: Place) -> None:
    place.state.mkdir()
    (place.state / "day.json").write_text('{"steps": [{"nonsense": 1}]}')
    with pytest.raises(InputError, match=r"day\.json is damaged"):
        Day(place)


def test_no_process_outlives_its_step(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_day, "GRACE", 0.1)
    ask_to_stop_when((place.state / "0.json.begun").exists, monkeypatch)
    Day(place, listed("hangs", seconds=0.2)).work(60)
    started = int((place.state / "0.json.begun").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(started, signal.SIGCONT)


def test_the_list_is_the_one_of_the_documents() -> None:
    names = [step.name for step in steps(Place(Path("s"), Path("o")))]
    assert names[:6] == ["machine", "checks", "smoke", "sinkhorn", "train", "sanitizer"]
    assert names[6:-1] == [f"{row}, seed {seed}" for seed in range(3) for row in EXPERIMENTS]
    assert names[-1] == "sinkhorn-layouts"


def test_no_more_than_eight_result_files() -> None:
    """A lent machine may hand back eight files."""
    copied = {step.copied_as for step in steps(Place(Path("s"), Path("o"))) if step.copied_as}
    assert len(copied | {"day.json"}) <= 8


@pytest.mark.parametrize(
    ("failed", "settings"),
    [
        ([], []),
        (["training: losses equal those of the CPU"], []),
        (["sinkhorn: invariances"], ["discover.assignment.backend=torch"]),
        (["training: steps of a CUDA graph equal eager ones"], ["loop.step=eager"]),
    ],
)
def test_training_avoids_what_failed_its_check(failed: list[str], settings: list[str]) -> None:
    assert avoided(failed) == settings
    row = steps(Place(Path("s"), Path("o")), failed)[6].arguments
    assert [s for s in settings if s not in row] == []


def test_bad_input_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--state", str(tmp_path / "state")]
    for arguments, words in (
        (["--minutes", "1", *out], "--minutes 1 is too short"),
        (["--device", "cpu", "--data-root", "nowhere", *out], "--data-root nowhere is not a"),
        (["--device", "tpu", *out], "tpu"),
    ):
        assert run_verb("gpu-day", arguments) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_the_list_can_be_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out"), "--state", str(tmp_path / "state"), "--list"]
    assert run_verb("gpu-day", out) == 0
    shown = capsys.readouterr().out
    assert "sanitizer" in shown
    assert f"{EXPERIMENTS[0]}, seed 2" in shown
    assert list(tmp_path.iterdir()) == []


def test_time_is_kept(place: Place) -> None:
    began = time.monotonic()
    Day(place, listed("hangs", "hangs too")).work(gpu_day.MARGIN)
    assert time.monotonic() - began < gpu_day.MARGIN


ROW = """\
extends: digits
model: {hidden: 16, projection: 8, num_heads: 2}
pretrain: {epochs: 2, num_views: 1, batch_size: 32}
discover: {epochs: 2, batch_size: 32}
evaluation: {kmeans_restarts: 1}
experiment: {title: tiny}
"""


@pytest.mark.slow
def test_real_commands_that_are_cut_end_in_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_images: None
) -> None:
    """A call continues what an earlier one cut; without a GPU the checks fail by name."""
    row = tmp_path / "tiny.yaml"
    row.write_text(ROW)

    def list_of(place: Place, failed: Sequence[str]) -> list[Step]:
        whole = steps(place, failed)
        first = [step for step in whole if step.name in ("machine", "checks")]
        assert len(first) == 2
        arguments = [str(row) if word == EXPERIMENTS[0] else word for word in whole[6].arguments]
        result = "experiments/tiny/result.json"
        row_step = replace(whole[6], arguments=tuple(arguments), result=result, needs_data=False)
        return [*first, row_step]

    place = Place(tmp_path / "state", tmp_path / "out", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stage2 = place.state / "experiments" / "tiny" / "seed0"
    ask_to_stop_when((stage2 / "run.json").exists, monkeypatch, ForkedCommand)
    assert not Day(place, list_of).work(600)
    assert statuses(Day(place, list_of)) == ["done", "failed", "cut"]
    assert Day(place, list_of).work(600)
    outcomes = {outcome.name: outcome for outcome in Day(place, list_of).outcomes()}
    assert outcomes["machine"].status == "done"
    assert outcomes["checks"].status == "failed"
    assert "no CUDA device" in outcomes["checks"].text
    found = json.loads((place.out / f"{EXPERIMENTS[0]}.json").read_text())
    straight = reproduce(row, 1, tmp_path / "straight", device="cpu")
    assert found["mean"] == straight["mean"]
    assert found["recipe"] == straight["recipe"]
    day = json.loads((place.out / "day.json").read_text())
    assert {entry["unit"] for entry in day["machine"]} == {"TFLOP/s", "GB/s", "us"}
    assert day["commit"] == found["runs"][0]["commit"]


def test_the_runs_are_in_the_cache_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Place] = []

    class Listed:
        def __init__(self, place: Place) -> None:
            places.append(place)

        def outcomes(self) -> list[object]:
            return []

    monkeypatch.setenv("CRKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu_day, "Day", Listed)
    assert run_verb("gpu-day", ["--out", str(tmp_path / "out"), "--list"]) == 0
    assert places[0].state == tmp_path / "cache" / "gpu-day"
