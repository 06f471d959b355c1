"""The measuring code: which rows it writes, which carry a ratio, and when it refuses."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import rows as timing
from benchmarks import sizes, train
from benchmarks.plain import PlainDiscovery
from crkd.commands.bench import RESUMED
from crkd.commands.main import run_verb
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.engine.setup import RunData, prepare

CPU = torch.device("cpu")


def tiny(device: torch.device) -> tuple[Config, RunData, str]:
    wanted = ["dataset=digits", *train.SMALL, "discover.batch_size=32", "pretrain.batch_size=32"]
    config = load_config(None, [*wanted, "model.hidden=16", "model.projection=8"])
    return config, prepare(config, device), "digits"


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
    found = train.rows("cpu", seconds=2.0)
    assert [r["ratio"] is not None for r in found] == [True] + [False] * (len(found) - 1)
    assert all(r["value"] > 0 for r in found if "H100" not in r["name"])
    on_h100 = [r for r in found if "H100" in r["name"]]
    assert [(r["value"], r["baseline"]) for r in on_h100] == [
        (None, 2336.0),
        (None, 180.0),
        (None,) * 2,
    ]


def test_sides_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PlainDiscovery.losses
    monkeypatch.setattr(PlainDiscovery, "losses", lambda *given: 1.1 * honest(*given))
    config, data, _ = tiny(CPU)
    with pytest.raises(RuntimeError, match="no speed counts"):
        train._check(config, data, CPU)


def test_sizes_are_measured_and_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sizes, "setting", tiny)
    monkeypatch.setattr(sizes, "rate", lambda batches, slot: float(next(batches)))
    found: list[dict[str, Any]] = sizes.rows("cpu")
    assert [r["name"].split(";")[0] for r in found][:4] == [
        "10 % of the set",
        "50 % of the set",
        "100 % of the set",
        "1 heads",
    ]
    sizes.draw(found, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 5000


def test_a_plot_of_another_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("bench", ["train", "--plot", "x.png"]) == 2
    assert "--plot draws the part sizes alone, not train" in capsys.readouterr().err


@pytest.mark.parametrize("part", RESUMED)
def test_a_part_that_goes_on_needs_a_file(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("bench", [part]) == 2
    assert f"bench {part} needs --json FILE" in capsys.readouterr().err


def test_the_rows_of_people_are_measured_on_a_small_scale() -> None:
    from benchmarks import people

    measured = people.rows(images=20, reviewed=200)
    assert [entry["benchmark"] for entry in measured] == ["people"] * 5
    assert all(entry["value"] > 0 for entry in measured)
    pages = [entry for entry in measured if entry["unit"] == "MB"]
    assert len(pages) == 2
    assert all(entry["value"] < 25 for entry in pages)
