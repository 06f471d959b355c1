"""The measuring code: which rows it writes, which carry a ratio, and when it refuses."""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import augment, load, operations, people, review_page, sizes, train
from benchmarks import rows as timing
from benchmarks.plain import PlainDiscovery
from crkd.commands.bench import RESUMED
from crkd.commands.main import run_verb
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.watched import Job
from crkd.gpu_checks.fresh_loops import discovery_loop
from crkd.stages.run_data import RunData, prepare

CPU = torch.device("cpu")


def tiny(device: torch.device) -> tuple[Config, RunData, str]:
    wanted = ["dataset=digits", *train.SMALL, "discover.batch_size=32", "pretrain.batch_size=32"]
    config = load_config(None, [*wanted, "model.hidden=16", "model.projection=8"])
    return config, prepare(config, device), "digits"


def rows_of(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    return [row for job in jobs for row in job.work()]


def test_a_ratio_says_how_many_times_better() -> None:
    assert timing.row("train", "images/s", "rate", 200.0, 50.0)["ratio"] == 4.0
    assert timing.row("train", "s", "cost", 2.0, 50.0)["ratio"] == 25.0
    assert timing.row("train", "s", "part", 2.0, 50.0, complete=False)["ratio"] is None
    assert timing.row("train", "s", "not measured", None, 50.0)["ratio"] is None


def test_a_rate_is_images_by_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=0.5)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    assert timing.rate(itertools.repeat(10), seconds=3.0) == pytest.approx(50 / 3.5)


def test_only_the_complete_pipeline_carries_a_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "setting", tiny)
    found = rows_of(train.measurements("cpu", seconds=0.2))
    assert [r["name"] for r in found if r["ratio"] is not None] == [
        "complete discovery step, digits"
    ]
    assert len(found) == 13
    assert all(r["value"] > 0 for r in found if "H100" not in r["name"])
    on_h100 = [r for r in found if "H100" in r["name"]]
    assert [(r["value"], r["baseline"]) for r in on_h100] == [
        (None, 2336.0),
        (None, 180.0),
        (None,) * 2,
    ]


def test_any_measurement_may_be_the_first_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "setting", tiny)
    monkeypatch.setattr(train, "_plain", lambda *given: itertools.repeat(32))
    count = len(train.measurements("cpu"))
    for number in range(count):
        job = train.measurements("cpu", seconds=0.02)[number]
        assert all(r["value"] > 0 for r in job.work() if "H100" not in r["name"])
        on_its_own = job.name in (train.FIRST_STEP, "pretraining step")
        assert job.needs == ("" if on_its_own else train.FIRST_STEP)


def test_sides_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PlainDiscovery.losses
    monkeypatch.setattr(PlainDiscovery, "losses", lambda *given: 1.1 * honest(*given))
    config, data, _ = tiny(CPU)
    with pytest.raises(RuntimeError, match="no speed counts"):
        train._check(config, data, CPU)


def test_sizes_are_measured_and_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sizes, "setting", tiny)
    monkeypatch.setattr(sizes, "rate", lambda batches, slot: float(next(batches)))
    found = rows_of(sizes.measurements("cpu"))
    assert len(found) == len(sizes.SHARES) + len(sizes.HEADS) + len(sizes.CLASSES)
    assert [r["name"].split(";")[0] for r in found][:4] == [
        "10 % of the set",
        "50 % of the set",
        "100 % of the set",
        "1 heads",
    ]
    sizes.draw(found, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 5000
    found[4] = {"name": found[4]["name"], "value": None, "reason": "ValueError: no sense"}
    sizes.draw(found, tmp_path / "gap.png")
    assert (tmp_path / "gap.png").read_bytes() != (tmp_path / "cost.png").read_bytes()


def test_a_size_that_another_process_began_still_has_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sizes, "setting", tiny)
    monkeypatch.setattr(sizes, "rate", lambda batches, slot: float(next(batches)))
    (found,) = sizes.measurements("cpu")[-1].work()
    assert found["name"] == "1000 novel classes; digits"
    assert found["value"] > 0


def test_a_plot_of_another_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("bench", ["train", "--plot", "x.png"]) == 2
    assert "--plot does not apply to train, only to sizes" in capsys.readouterr().err


@pytest.mark.parametrize("part", RESUMED)
def test_a_part_that_goes_on_needs_a_file(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("bench", [part]) == 2
    assert f"bench {part} needs --json FILE" in capsys.readouterr().err


def test_the_rows_of_the_review_page_are_measured_on_a_small_scale() -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "chrome"))):
        pytest.skip("no chromium is installed")
    measured = list(review_page.rows(images=200, pixels=300))
    assert [entry["unit"] for entry in measured].count("frames/s") == 2
    assert all(entry["value"] > 0 for entry in measured)


def test_the_rows_of_people_are_measured_on_a_small_scale() -> None:
    measured = rows_of(people.measurements(images=20, reviewed=200))
    assert [entry["benchmark"] for entry in measured] == ["people"] * 5
    assert all(entry["value"] > 0 for entry in measured)
    pages = [entry for entry in measured if entry["unit"] == "MB"]
    assert len(pages) == 2
    assert all(entry["value"] < 25 for entry in pages)


def test_what_no_file_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="cost: the result is nan"):
        timing.row("train", "s", "cost", float("nan"))
    with pytest.raises(ValueError, match="the baseline inf"):
        timing.row("train", "s", "cost", 1.0, float("inf"))


def test_views_are_measured_on_a_small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "_torchvision_rate", lambda *given: 1.0)
    jobs = augment.measurements(seconds=0.2, workers=1, images=augment._made_up_images(64))
    before = torch.get_num_threads()
    found = rows_of(jobs)
    assert torch.get_num_threads() == before
    assert [r["name"] for r in found] == [job.name for job in jobs]
    assert [r["ratio"] is not None for r in found] == [True] + [False] * (len(found) - 1)


def test_views_that_differ_from_pillow_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = augment.render
    monkeypatch.setattr(augment, "render", lambda *given, **more: 1.1 * honest(*given, **more))
    with pytest.raises(RuntimeError, match="no speed"):
        augment.measurements()


def in_this_process(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -c PROGRAM ARGUMENTS`` here, where torch is imported already."""
    assert command[:2] == [sys.executable, "-c"]
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", ["-c", *command[3:]])
        exec(command[2], {})
    return subprocess.CompletedProcess(command, 0, said.getvalue(), "")


def test_reading_is_measured_on_a_small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "setting", tiny)
    monkeypatch.setattr(load.subprocess, "run", in_this_process)
    monkeypatch.setattr(load, "_with_data_loader", lambda *given: itertools.repeat(32))
    found = rows_of(load.measurements("cpu", seconds=0.2))
    assert [r["name"].split(": ")[0] for r in found[:5]] == ["eager"] * 5
    assert [r["unit"] for r in found[5:9]] == ["images/s"] * 4
    assert all(r["value"] > 0 for r in found[:-1])


def test_a_start_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    config, _, _ = tiny(CPU)
    monkeypatch.setattr(load, "START", "raise SystemExit('no such card')")
    with pytest.raises(RuntimeError, match="exit code 1: no such card"):
        load._start_up("eager", config, CPU, [])


def test_the_operations_of_a_step_are_counted_by_phase() -> None:
    config = load_config(
        "digits",
        ["model.hidden=16", "model.backbone=resnet8", "discover.batch_size=16"],
    )
    loop = discovery_loop(config, prepare(config, torch.device("cpu")), torch.device("cpu"))
    counts = operations.count_step(loop, steps=4)
    again = operations.count_step(loop, steps=4)
    assert counts == again
    assert {"drawing the views", "rendering the views", "assignment", "backward"} <= counts.keys()
    assert counts["update"] < counts["student, forward"] < counts["backward"]
    assert operations.step_flops(loop) > 0
