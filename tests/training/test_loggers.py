"""Content of the logs of a run, also of an interrupted run."""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.stages.pretrain.run import pretrain
from crkd.training.checkpoint import states
from crkd.training.interruption import Interrupted
from crkd.training.loggers.base import LOGS, Logs, logged
from tests.support.small_runs import interrupt_at, small_config


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that died after it had logged more than it had saved, and then went on."""
    out = tmp_path_factory.mktemp("runs") / "run"
    config = small_config("pretrain.epochs=3", "loop.log_every=1")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(3, patch)
        with pytest.raises(Interrupted):
            pretrain(config, out)
    (state,) = states(out)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(6, patch)
        with pytest.raises(Interrupted):
            pretrain(config, out, resume=True)
    for later in set(states(out)) - {state}:
        later.unlink()
    assert [row["step"] for row in logged(RunFolder(out))] == list(range(1, 8))
    with (out / "log.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    return pretrain(config, out, resume=True)


def table(run: RunFolder) -> list[dict[str, str]]:
    with (run.path / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_step_is_once_in_json_lines_and_csv(resumed: RunFolder) -> None:
    rows = logged(resumed)
    assert [row["step"] for row in rows] == list(range(1, rows[-1]["step"] + 1))
    assert len(rows) > 8
    assert (resumed.path / "log.jsonl").read_text().count("\n") == len(rows)
    assert [{k: str(v) for k, v in row.items()} for row in rows] == table(resumed)


def test_event_files_hold_the_same_points(resumed: RunFolder) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(resumed.path / "tensorboard")).Reload()
    rows = logged(resumed)
    tags = {f"pretrain/{name}" for name in rows[0]} - {
        f"pretrain/{name}" for name in ("time", "stage", "step", "epoch")
    }
    assert set(found.Tags()["scalars"]) == tags
    for tag in tags:
        points = {point.step: point.value for point in found.Scalars(tag)}
        assert len(points) == len(found.Scalars(tag)), "no step is there twice"
        wanted = {row["step"]: row[tag.removeprefix("pretrain/")] for row in rows}
        assert points == pytest.approx(wanted, rel=1e-6)


def test_a_series_that_begins_later_gets_a_column(tmp_path: Path) -> None:
    logs = Logs(RunFolder(tmp_path), small_config("loop.loggers=[]"), start=0)
    row: dict[str, Any] = {"time": 1.0, "stage": "=discover", "step": 1, "epoch": 0.5, "loss": 2.0}
    logs.write(row)
    logs.write({**row, "step": 2, "queue": 0.25})
    logs.write({**row, "step": 3})
    logs.close()
    assert [entry["queue"] for entry in table(RunFolder(tmp_path))] == ["", "0.25", ""]
    assert [entry["loss"] for entry in table(RunFolder(tmp_path))] == ["2.0"] * 3
    assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl", "log.csv"}


def test_unknown_and_missing_logs_are_named_before_a_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"unknown log 'tensorbord' .*'tensorboard'"):
        pretrain(small_config('loop.loggers=["tensorbord"]'), tmp_path / "run")
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="wandb, which is not installed"):
        pretrain(small_config('loop.loggers=["wandb"]'), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Stand:
    """Takes what the wandb package would be given."""

    def __init__(self, key: str | None) -> None:
        self.key = key
        self.rows: dict[int, dict[str, float]] = defaultdict(dict)
        self.begun: dict[str, Any] = {}
        self.finished = 0

    def login(self, *, prompt: bool, verify: bool) -> bool:
        assert not prompt
        return self.key is not None

    def init(self, **options: Any) -> Stand:
        self.begun = options
        return self

    def log(self, series: dict[str, float], step: int) -> None:
        self.rows[step] |= series

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize(("key", "mode"), [(None, "offline"), ("x" * 40, None)])
def test_wandb_is_told_the_same_and_asks_for_no_key(
    resumed: RunFolder, monkeypatch: pytest.MonkeyPatch, key: str | None, mode: str | None
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    stand = Stand(key)
    monkeypatch.setitem(sys.modules, "wandb", stand)
    writer = LOGS.get("wandb")(resumed, small_config(), [])
    for row in logged(resumed):
        writer.write(row)
    writer.close()
    again = Stand(key)
    monkeypatch.setitem(sys.modules, "wandb", again)
    LOGS.get("wandb")(resumed, small_config(), [])
    assert stand.begun["mode"] == mode
    assert stand.begun["config"]["dataset"] == "digits"
    assert again.begun["id"] == stand.begun["id"]
    assert [stand.rows[n]["pretrain/loss"] for n in sorted(stand.rows)] == [
        row["loss"] for row in logged(resumed)
    ]
    assert stand.finished == 1
