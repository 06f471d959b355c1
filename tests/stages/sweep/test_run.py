"""Sweeps of real small runs, and of stand-ins that fail, wait and meet."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from crkd.commands.main import run_verb
from crkd.commands.sweep import commands
from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.stages.sweep import run as sweep_run
from crkd.stages.sweep.file import load_sweep
from crkd.stages.sweep.jobs import estimate, jobs_of, unfinished
from crkd.stages.sweep.run import SweepResult, run_sweep
from tests.support.compared_runs import KEPT
from tests.support.small_runs import SMALL
from tests.support.sweep_runs import InThisProcess, StandIn
from tests.support.vector_clouds import cloud_files

pytestmark = pytest.mark.usefixtures("few_images")

FEW = [*SMALL, "pretrain.batch_size=16", "discover.batch_size=32", "loop.loggers=[]"]
FEW += ["evaluation.baselines=[]"]
NOVEL = "task_aware/train/novel"


def sweep(text: str, place: Path, *settings: str, **options: Any) -> SweepResult:
    place.mkdir(parents=True, exist_ok=True)
    file = place / "mine.yaml"
    file.write_text(text)
    found = load_sweep(file, commands(), [*FEW, *settings])
    return run_sweep(found, place / "out", devices=options.pop("devices", ["cpu"]), **options)


def stand_ins(methods: str, place: Path, **options: Any) -> tuple[SweepResult, StandIn]:
    place.mkdir(parents=True, exist_ok=True)
    start = StandIn(place, KEPT)
    names = ", ".join(
        f"{name}: {{settings: {{discover.epochs: {number + 1}}}}}"
        for number, name in enumerate(methods.split())
    )
    text = f"config: digits\nseeds: 2\nmethods: {{{names}}}\n"
    return sweep(text, place, start=start, **options), start


REAL = """\
config: digits
methods:
  ours: {}
  k-means: {run: baseline kmeans}
"""


def test_real_runs_share_stage_1_and_are_kept(tmp_path: Path) -> None:
    start, said = InThisProcess(), []
    result = sweep(REAL, tmp_path, start=start, say=said.append)
    assert (result.failed, result.left, result.stopped) == ([], [], False)
    assert [words[0] for words in start.commands] == ["pretrain", "discover", "baseline"]
    assert [group.name for group in result.groups] == ["ours", "k-means"]
    assert "2 of 2 runs complete" in said[-1]
    out = tmp_path / "out"
    found = json.loads((out / "result.json").read_text())
    values = []
    for group in found["groups"]:
        metrics = json.loads((out / group["name"] / "seed0" / "metrics.json").read_text())
        values.append(metrics["task_aware"]["train"]["novel"]["acc"])
        assert group["metrics"][NOVEL] == {"mean": values[-1], "std": None, "n": 1}
    assert found["groups"][1]["differences"][NOVEL]["mean"] == values[1] - values[0]
    assert (found["groups"][1]["reference"], found["missing"]) == ("ours", [])
    assert "k-means & 1 &" in (out / "result.tex").read_text()
    # Finished runs are kept, and those of another configuration are refused.
    again = InThisProcess()
    assert sweep(REAL, tmp_path, start=again).failed == []
    with pytest.raises(InputError, match=r"another configuration: config.model.hidden \(16 then"):
        sweep(REAL, tmp_path, "model.hidden=8", start=again)
    assert again.commands == []


def test_plans_of_one_first_group_share_stage_1(tmp_path: Path) -> None:
    text = """\
config: digits
methods:
  keep: {run: increments, plan: 6-4}
  MORE
"""
    more = (
        "finetune: {run: increments finetune, plan: 6-2-2}\n  other: {run: increments, plan: 5-5}"
    )
    (tmp_path / "more.yaml").write_text(text.replace("MORE", more))
    jobs = jobs_of(load_sweep(tmp_path / "more.yaml", commands(), FEW), tmp_path / "out")
    needs = [job.needs for job in jobs if job.is_plan]
    assert needs[0] is needs[1] is not needs[2] is not None
    start = InThisProcess()
    result = sweep(text.replace("MORE", ""), tmp_path, start=start)
    assert result.failed == []
    assert [words[0] for words in start.commands] == ["pretrain", "increments"]
    assert needs[0] is not None
    models = [
        (folder / "model.safetensors").read_bytes()
        for folder in (needs[0].out, tmp_path / "out" / "keep" / "seed0" / "step-0")
    ]
    assert models[0] == models[1]
    (group,) = result.groups
    last = json.loads((tmp_path / "out" / "keep" / "seed0" / "metrics.json").read_text())
    found = group.statistic("final/all")
    assert found is not None
    assert found.mean == last["steps"][-1]["acc"]["all"]
    assert (found.std, found.n) == (None, 1)


def test_a_failed_run_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = stand_ins("fails works", tmp_path)
    assert [job.name for job in result.failed] == ["fails, seed 0", "fails, seed 1"]
    assert [group.name for group in result.groups] == ["works"]
    assert "stand-in discover" in result.failed[0].log.read_text()
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert found["missing"] == ["fails, seed 0", "fails, seed 1"]
    # The command names them with their logs, and tries them once more.
    again = StandIn(tmp_path, KEPT)
    monkeypatch.setattr(sweep_run, "start_process", lambda words, log, threads: again(words, log))
    words = [str(tmp_path / "mine.yaml"), f"--out={tmp_path / 'out'}", "--devices=cpu"]
    words += [f"--set={setting}" for setting in FEW]
    assert run_verb("sweep", words) == 1
    said = capsys.readouterr()
    assert len(again.commands) == 2
    assert "2 configurations x 2 seeds = 4 runs; 2 to do" in said.out
    assert f"fails, seed 1 failed; its output is in {result.failed[1].log}" in said.err


def test_a_signal_stops_the_runs_and_the_next_call_continues(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if line.startswith("waits, seed 0: started"):
            os.kill(os.getpid(), signal.SIGTERM)

    result, start = stand_ins("works waits", tmp_path, say=stop)
    assert result.stopped
    assert [job.name for job in result.left if job.group] == [
        *("waits, seed 0", "works, seed 1", "waits, seed 1"),
    ]
    assert [words[0] for words in start.commands] == ["pretrain", "discover", "discover"]
    source = json.loads((KEPT / "discovered" / "run.json").read_text())
    for seed in (0, 1):
        place = tmp_path / "out" / "waits" / f"seed{seed}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "run.json").write_text(json.dumps({**source, "status": "interrupted"}))
    result, start = stand_ins("works waits", tmp_path)
    assert not result.stopped
    assert result.left == []
    resumed = {words[words.index("--out") + 1]: "--resume" in words for words in start.commands}
    assert {Path(k).parent.name: v for k, v in resumed.items() if "stage1" not in k} == {
        "waits": True,
        "works": False,
    }
    assert len(start.commands) == 4


def test_a_begun_stage_1_continues_with_its_own_configuration(tmp_path: Path) -> None:
    """Another method of an earlier file, with the same stage 1, may have begun it."""
    file = tmp_path / "mine.yaml"
    file.write_text("config: digits\nmethods: {ours: {}}\n")
    stage1, ours = jobs_of(load_sweep(file, commands(), FEW), tmp_path / "out")
    written = str(tmp_path / "out" / "configs" / "ours.yaml")
    assert stage1.command("cpu")[1:3] == ["--config", written]
    source = json.loads((KEPT / "pretrained" / "run.json").read_text())
    for job in (stage1, ours):
        job.out.mkdir(parents=True)
        (job.out / "run.json").write_text(json.dumps({**source, "status": "interrupted"}))
        # Without a configuration nothing of the run was saved.
        assert job.command("cpu")[1:3] == ["--config", written]
        (job.out / "config.yaml").touch()
    assert stage1.command("cpu")[1:3] == ["--config", str(stage1.out / "config.yaml")]
    assert ours.command("cpu")[1:3] == ["--config", written]


def test_two_devices_work_at_the_same_time(tmp_path: Path) -> None:
    result, _ = stand_ins("meets", tmp_path, devices=["cpu", "cpu"])
    assert result.failed == result.left == []


def test_a_run_whose_stage_1_fails_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(StandIn):
        def __call__(self, arguments: Any, log: Path) -> Any:
            return super().__call__([arguments[0]], log)

    result = sweep("config: digits\n", tmp_path, start=Failing(tmp_path, KEPT))
    assert [job.group for job in result.failed] == [None]
    assert [job.name for job in result.left] == ["discover, seed 0"]


def test_nothing_begins_where_a_device_or_the_data_is_missing(tmp_path: Path) -> None:
    start = StandIn(tmp_path, KEPT)
    with pytest.raises(InputError, match="--device 'cpuu' is unknown"):
        sweep("config: digits\n", tmp_path, start=start, devices=["cpuu"])
    text = "settings: {dataset: cifar100, data.root: nowhere}\n"
    with pytest.raises(InputError, match="'nowhere' is not a folder"):
        sweep(text, tmp_path, start=start)
    assert start.commands == []
    assert not (tmp_path / "out").exists()


def test_the_time_is_that_of_finished_runs_alike(tmp_path: Path) -> None:
    result, _ = stand_ins("works", tmp_path)
    assert result.failed == []
    found = load_sweep(tmp_path / "mine.yaml", commands(), FEW)
    jobs = jobs_of(found, tmp_path / "out")
    assert unfinished(jobs) == []
    more = [job for job in jobs if job.group is not None]
    assert estimate(more, jobs) == 2 * 60.0
    assert estimate(more, []) is None


def test_runs_on_vectors_need_no_stage_1(tmp_path: Path) -> None:
    text = """\
settings: {dataset: features, data.features: [known.npz, "a b.npz"]}
grid: {vectors.method: [kmeans, heads]}
"""
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    jobs = jobs_of(load_sweep(file, commands()), tmp_path)
    assert [job.words for job in jobs] == [
        (
            *("discover", "--features", "known.npz", "a b.npz"),
            *("--set", f'vectors.method="{name}"', "--seed", "0"),
        )
        for name in ("kmeans", "heads")
    ]


METHODS_ON_VECTORS = """\
settings: {dataset: features, data.features: [KNOWN, NOVEL], vectors.method: kmeans}
methods: {ours: {}, k-means: {run: baseline kmeans}}
"""


def test_methods_on_vectors_are_different_runs(tmp_path: Path) -> None:
    text = METHODS_ON_VECTORS
    for name, file in zip(("KNOWN", "NOVEL"), cloud_files(tmp_path), strict=True):
        text = text.replace(name, file)
    start = InThisProcess()
    result = vector_sweep(text, tmp_path, start=start)
    assert result.failed == []
    assert [words[:2] for words in start.commands] == [
        ["discover", "--features"],
        ["baseline", "kmeans"],
    ]
    assert [group.entries[0].method for group in result.groups] == ["discover", "kmeans"]
    # An unfinished baseline begins again in an empty folder, as the command has no --resume.
    run = RunFolder(tmp_path / "out" / "k-means" / "seed0")
    metrics = run.read_metrics()
    run.write_info(dataclasses.replace(run.read_info(), status="interrupted"))
    (run.path / "left-over.txt").touch()
    again = InThisProcess()
    assert vector_sweep(text, tmp_path, start=again).failed == []
    assert [words[:2] for words in again.commands] == [["baseline", "kmeans"]]
    assert (run.read_info().status, run.read_metrics()) == ("complete", metrics)
    assert not (run.path / "left-over.txt").exists()


def vector_sweep(text: str, place: Path, *, start: InThisProcess) -> SweepResult:
    (place / "mine.yaml").write_text(text)
    found = load_sweep(place / "mine.yaml", commands())
    return run_sweep(found, place / "out", devices=["cpu"], start=start)


def test_a_dry_run_prints_the_runs_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run_verb("sweep", ["digits", "--dry-run", f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert "class relations, epsilon=0.05" in said
    assert "4 configurations x 2 seeds = 8 runs; 8 to do, and 2 shared runs of stage 1" in said
    assert "expected time: not known" in said
    assert not out.exists()
    assert run_verb("sweep", ["digits", "--devices=cpu,,cpu"]) == 2
    assert "has an empty name" in capsys.readouterr().err
