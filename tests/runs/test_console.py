"""Console output of a run, and its cost."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import pytest

from crkd.runs import console
from crkd.runs.console import TrainingProgress
from crkd.training.loggers.base import open_logs
from tests.support.steps import loop_of, tiny

HEAVY = {"scipy.optimize", "matplotlib", "sklearn", "pyarrow", "torchvision", "timm", "faiss", "ot"}


def test_a_line_names_speed_memory_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with TrainingProgress("discover", 100, 0, 512) as bar:
        now += 40.0
        bar.show(20, {"loss": 1.25, "kd_weighted": 3.0, "assign/entropy": 2.0})
        now += 1.0
        bar.show(21, {"loss": 1.0})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, "a line every half minute"
    assert lines[0].startswith("discover: step 20/100, loss 1.250, 256 images/s, ")
    assert lines[0].endswith("GiB, 2 min 40 s left") or lines[0].endswith(
        "GiB on the GPU, 2 min 40 s left"
    )


def test_logging_costs_at_most_one_percent() -> None:
    """Of 50 steps at the speed that is aimed at: 20,000 images/s in batches of 512."""
    loop = loop_of(tiny())
    (batch,) = loop.loader.batches(0, 1)
    spent = []
    with (
        open_logs(loop.run, loop.config, 0) as logs,
        TrainingProgress("discover", 10**6, 0, 512) as bar,
    ):
        for line in range(15):
            loop.step(batch, 1)
            start = time.process_time()
            bar.show(line, loop.log(line, logs))
            spent.append(time.process_time() - start)
    assert statistics.median(spent) < 0.01 * 50 * 512 / 20_000


def test_training_starts_without_heavy_imports() -> None:
    """Each of them takes a second or more, and none is needed for the first step."""
    program = (
        "import json, sys, crkd.commands.discover;"
        "import crkd.stages.discover.run, crkd.stages.pretrain.run;"
        f"print(json.dumps(sorted(sys.modules.keys() & set({sorted(HEAVY)!r}))))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert json.loads(finished.stdout) == []


def test_memory_is_reported_in_gibibytes() -> None:
    amount, unit = console.memory_in_use().split(" ")[:2]
    assert unit == "GiB"
    assert 0.05 < float(amount) < 1000


def minutes_of(text: str) -> int:
    """Return "1 h 31 min left" or "33 min 12 s left" in minutes."""
    numbers = [int(word) for word in text.split() if word.isdecimal()]
    return 60 * numbers[0] + numbers[1] if " h " in text else numbers[0]


def test_long_work_is_announced_after_three_steps_and_the_time_left_is_steady(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with TrainingProgress("pretrain", 1000, 0, 32) as bar:
        now += 9.0
        bar.tick(1)
        for step in range(2, 60):
            # A step of two seconds, now and then one of ten.
            now += 10.0 if step % 8 == 0 else 2.0
            bar.tick(step)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("pretrain: step 2/1000, "), "the first line comes after 10 s"
    assert "pretrain: about 33 min 12 s for 996 steps" in lines
    left = [minutes_of(line.split(", ")[-1]) for line in lines if line.endswith("left")]
    assert len(left) >= 5
    assert max(left[2:]) < 1.5 * min(left[2:])


def test_the_time_left_survives_a_suspension_and_follows_a_slower_pace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with TrainingProgress("pretrain", 10_000, 0, 32) as bar:
        # A step of one second; the process is suspended for a day before step 200; later a step
        # takes ten seconds.
        for step in range(1, 1200):
            now += 86_400.0 if step == 200 else 10.0 if step > 800 else 1.0
            if step % 50 == 0:
                bar.show(step, {})
    lines = capsys.readouterr().err.splitlines()
    left = {}
    for line in lines:
        left[int(line.split()[2].split("/")[0])] = minutes_of(line.split(", ")[-1])
    assert left[150] == 9850 // 60
    assert left[200] < 3 * 9800 // 60
    assert left[450] == pytest.approx(9550 / 60, rel=0.05)
    assert left[1150] == pytest.approx(10 * 8850 / 60, rel=0.05)


def test_short_work_is_not_announced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with TrainingProgress("discover", 40, 0, 32) as bar:
        for step in range(1, 9):
            now += 1.0
            bar.tick(step)
    assert capsys.readouterr().err == ""
