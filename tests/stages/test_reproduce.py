"""Rows of the results: stored with their expected metrics, run again, and compared."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from crkd.commands.main import run_verb
from crkd.commands.reproduce import comparison_table, experiments_table, summary
from crkd.config.experiments import (
    Expectation,
    experiment_config,
    experiment_names,
    find_experiment,
    load_experiment,
)
from crkd.config.load import load_config
from crkd.core.errors import InputError
from crkd.stages import run_data
from crkd.stages.baselines.uno import uno_v2, uno_without_overclustering
from crkd.stages.reproduce import compared, recipe_digest, reproduce, stage1_folder
from crkd.training.interruption import Interrupted
from crkd.training.loop import Loop
from tests.support import ROOT
from tests.support.small_runs import scramble_hidden_labels

pytestmark = pytest.mark.usefixtures("few_images")

TINY = """\
extends: digits
model: {hidden: 16, projection: 8, num_heads: 2}
pretrain: {epochs: 1, num_views: 1, batch_size: 16}
discover: {epochs: 1, batch_size: 32}
evaluation: {kmeans_restarts: 1}
loop: {log_every: 5}
experiment:
  title: tiny
  method: METHOD
  expected:
    - {source: recorded, origin: a.json, tolerance: 100, metrics: {task_aware/train/novel: 50}}
    - {source: published, origin: a paper, metrics: {task_aware/test/novel: 0}}
    - {source: recorded, origin: a.json, metrics: {kmeans_x/task_aware/test/novel: 1}}
"""


def tiny(folder: Path, method: str = "discover", name: str = "tiny") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(TINY.replace("METHOD", method))
    return file


@pytest.fixture(scope="module")
def straight(
    few_images: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """Result and folder of a tiny row; no test changes them."""
    place = tmp_path_factory.mktemp("straight")
    return reproduce(tiny(place), 1, place / "rows"), place / "rows"


def shown(table: object) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("name", experiment_names())
def test_a_recorded_experiment_expects_what_its_record_holds(name: str) -> None:
    file = find_experiment(name)
    experiment = load_experiment(file)
    assert experiment.title
    assert experiment_config(file, seed=4).seed == 4
    for expectation in experiment.expected:
        assert expectation.metrics
        assert expectation.origin
        if expectation.source == "recorded":
            mean = json.loads((ROOT / expectation.origin).read_text())["mean"]
            assert expectation.metrics == {
                key: round(100 * mean[key], 1) for key in expectation.metrics
            }


def test_settings_change_a_row_and_its_digest(tmp_path: Path) -> None:
    file = tiny(tmp_path)
    result = reproduce(file, 1, tmp_path / "rows", settings=["discover.epochs=2"])
    assert result["settings"] == ["discover.epochs=2"]
    plain, seeded, changed = (
        recipe_digest(experiment_config(file, seed=seed, settings=settings))
        for seed, settings in ((0, ()), (1, ()), (0, ["discover.epochs=2"]))
    )
    assert plain == seeded != changed == result["recipe"]
    with pytest.raises(
        InputError, match=r"another configuration: discover.epochs \(2 then, 1 now\)"
    ):
        reproduce(file, 1, tmp_path / "rows")


ROWS = {name: experiment_config(find_experiment(name), seed=0) for name in experiment_names()}


@pytest.mark.parametrize("name", [row for row in ROWS if row.endswith(("-swapped", "-uno"))])
def test_an_experiment_of_uno_is_the_baseline_of_the_same_setting(name: str) -> None:
    """It differs from the row of class relations as ``crkd baseline`` changes that row."""
    ours, made = name.rpartition("-")[0], ROWS[name]
    change = uno_v2 if name.endswith("-uno") else uno_without_overclustering
    assert not made.discover.distillation
    assert made == change(ROWS.get(ours, made))
    assert bool(made.model.overclustering) == name.endswith("-uno")
    assert stage1_folder(made, ROOT) == stage1_folder(ROWS.get(ours, made), ROOT)


def test_the_factors_of_over_clustering_are_those_of_the_readme_of_uno() -> None:
    factors = {
        (made.dataset, made.split): made.model.overclustering
        for name, made in ROWS.items()
        if name.endswith("-uno") and made.dataset.startswith("cifar")
    }
    assert factors == {("cifar100", "50-50"): 3, ("cifar100", "80-20"): 5, ("cifar10", "5-5"): 10}
    for (dataset, split), factor in factors.items():
        plain = load_config(None, [f"dataset={dataset}", f"split={split}"])
        assert uno_v2(plain).model.overclustering == factor
    assert uno_v2(load_config(None, ["dataset=cifar10"])).model.overclustering == 10
    assert uno_v2(load_config(None, ["model.overclustering=7"])).model.overclustering == 7


def test_published_experiments_have_the_settings_of_the_releases() -> None:
    for name, made in ROWS.items():
        small = name.startswith("cifar100-10-10") or "-fast" in name
        if made.dataset not in ("cifar10", "cifar100") or small:
            continue
        assert made.model.batch_norm_per_view
        stage1 = made.pretrain
        assert (stage1.num_views, stage1.view.recipe) == (2, "large")
        for optimizer in (stage1.optimizer, made.discover.optimizer):
            assert (optimizer.name, optimizer.schedule, optimizer.min_lr) == ("sgd", "epoch", 0.001)
            assert optimizer.warmup_epochs == 10
        assert (made.discover.num_large, made.discover.num_small) == (2, 2)
        if "-100" not in name:
            assert (stage1.epochs, stage1.batch_size, stage1.optimizer.lr) == (200, 256, 0.1)
            assert (made.discover.epochs, made.discover.batch_size) == (500, 512)
    short = ROWS["cifar100-50-50-100"]
    assert (short.pretrain.epochs, short.discover.epochs, short.split) == (100, 100, "50-50")


def test_an_experiment_is_run_kept_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file, place = tiny(tmp_path), tmp_path / "rows"
    command = ["--seeds", "2", "--out", str(place), "--json", str(tmp_path / "r.json")]
    assert run_verb("reproduce", [str(file), *command]) == 0
    said = capsys.readouterr()
    assert "tiny: seed 1 (2 of 2)" in said.err
    assert "tiny: 2 results within tolerance or above, 1 not measured" in said.out
    result = json.loads((tmp_path / "r.json").read_text())
    assert result == json.loads((place / "tiny" / "result.json").read_text())
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    assert [entry["verdict"] for entry in result["comparison"]] == [
        "within",
        "reached",
        "not measured",
    ]
    assert result["comparison"][0]["mean"] == 100 * result["mean"]["task_aware/train/novel"]

    # Everything is there: nothing is trained again.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "step", lambda *arguments: pytest.fail("a finished seed was trained"))
        again = reproduce(file, 2, place)
    assert again["mean"] == result["mean"]
    # The same stage 1 serves the baselines.
    uno = tiny(tmp_path, name="uno")
    uno.write_text(
        uno.read_text()
        .replace("{epochs: 1, batch_size: 32}", "{epochs: 1, batch_size: 32, distillation: []}")
        .replace("num_heads: 2", "num_heads: 2, overclustering: 2")
    )
    for other in (uno, tiny(tmp_path, "kmeans", "kmeans")):
        assert len(reproduce(other, 1, place)["runs"]) == 1
    assert len(list(place.glob("stage1-*"))) == 2
    parents = {
        json.loads((place / row / "seed0" / "run.json").read_text())["parent"]["path"]
        for row in ("tiny", "uno", "kmeans")
    }
    assert len(parents) == 1

    # Metrics of another configuration are never taken for the row's.
    file.write_text(file.read_text().replace("hidden: 16", "hidden: 8"))
    with pytest.raises(InputError, match=r"another configuration: model.hidden \(16 then, 8 now\)"):
        reproduce(file, 2, place)


def test_the_row_of_the_supervised_bound_trains_once_and_needs_no_stage_1(tmp_path: Path) -> None:
    file, place = tiny(tmp_path, "supervised"), tmp_path / "rows"
    result = reproduce(file, 1, place)
    assert {folder.name for folder in place.iterdir()} == {"tiny"}
    info = json.loads((place / "tiny" / "seed0" / "run.json").read_text())
    assert any("trained WITH the labels of the novel images" in note for note in info["notes"])
    assert [entry["verdict"] for entry in result["comparison"]] == [
        "within",
        "reached",
        "not measured",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "step", lambda *arguments: pytest.fail("a finished seed was trained"))
        assert reproduce(file, 1, place)["mean"] == result["mean"]


@pytest.mark.parametrize(("method", "runs"), [("supervised", 1), ("kmeans", 2)])
def test_every_run_of_a_row_may_download_the_data_set(
    method: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, seen = run_data.load_images, []

    def load(*arguments: Any, download: bool = False, **options: Any) -> Any:
        seen.append(download)
        return honest(*arguments, **options)

    monkeypatch.setattr(run_data, "load_images", load)
    reproduce(tiny(tmp_path, method), 1, tmp_path / "rows", download=True)
    assert seen == [True] * runs


def test_an_interrupted_experiment_continues(
    straight: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    file = tiny(tmp_path)
    honest = Loop.step

    def stopping(self: Loop, batch: Any, step: int) -> None:
        if (self.task.stage, step) == ("discover", 2):
            os.kill(os.getpid(), signal.SIGTERM)
        honest(self, batch, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "step", stopping)
        with pytest.raises(Interrupted):
            reproduce(file, 1, tmp_path / "rows")
        assert run_verb("reproduce", [str(file), "--out", str(tmp_path / "rows")]) == 130
    resumed = reproduce(file, 1, tmp_path / "rows")
    assert resumed["mean"] == straight[0]["mean"]
    a, b = (
        load_file(place / "tiny" / "seed0" / "model.safetensors")
        for place in (straight[1], tmp_path / "rows")
    )
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_stage_1_that_another_configuration_began_is_continued(
    straight: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """The two differ in what a stage 1 does not read."""
    file = tiny(tmp_path)
    honest = Loop.step

    def stopping(self: Loop, batch: Any, step: int) -> None:
        if (self.task.stage, step) == ("pretrain", 2):
            os.kill(os.getpid(), signal.SIGTERM)
        honest(self, batch, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "step", stopping)
        with pytest.raises(Interrupted):
            reproduce(
                file,
                1,
                tmp_path / "rows",
                settings=["discover.prototypes=kmeans", "model.hidden=8"],
            )
    (begun,) = (tmp_path / "rows").glob("stage1-*")
    resumed = reproduce(file, 1, tmp_path / "rows")
    assert "resumed" in json.loads((begun / "run.json").read_text())["provenance"]
    assert resumed["mean"] == straight[0]["mean"]


def test_scrambled_hidden_labels_change_metrics_of_a_row_and_nothing_else(
    straight: tuple[dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, place = straight
    scramble_hidden_labels(monkeypatch)
    scrambled = reproduce(tiny(tmp_path), 1, tmp_path / "scrambled")
    assert honest["mean"] != scrambled["mean"]
    runs = [rows / "tiny" / "seed0" for rows in (place, tmp_path / "scrambled")]
    a, b = (load_file(run / "model.safetensors") for run in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    chosen = [json.loads((run / "run.json").read_text())["chosen_head"] for run in runs]
    assert chosen[0] == chosen[1]


def test_verdicts() -> None:
    found = {"mean": {"a": 0.60, "b": None}, "std": {"a": 0.01, "b": None}}

    def verdict(metric: str, expected: float, source: Any = "recorded") -> str:
        expectation = Expectation(source=source, tolerance=1.0, metrics={metric: expected})
        (entry,) = compared([expectation], found)
        return str(entry["verdict"])

    assert verdict("a", 61.0) == "within"
    assert verdict("a", 61.1) == "outside"
    assert verdict("a", 58.9) == "outside"
    assert verdict("a", 58.9, "published") == "reached"
    assert verdict("a", 61.1, "published") == "outside"
    assert verdict("b", 61.0) == "not measured"
    assert verdict("c", 61.0) == "not measured"
    entries = compared([Expectation(tolerance=1.0, metrics={"a": 70.0, "b": 1.0})], found)
    result = {"experiment": "x", "title": "t", "runs": [1], "comparison": entries}
    assert summary(result) == "x: 1 of 2 results are OUTSIDE their tolerance"
    assert "70.0 ± 1 (recorded)" in shown(comparison_table(result))


def test_an_experiment_outside_its_tolerance_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tiny(tmp_path, "kmeans")
    file.write_text(file.read_text().replace("tolerance: 100", "tolerance: 0.01"))
    assert run_verb("reproduce", [str(file), "--seeds=1", f"--out={tmp_path / 'rows'}"]) == 1
    assert "1 of 3 results are OUTSIDE" in capsys.readouterr().out


def test_the_list_says_what_is_not_measured() -> None:
    text = shown(
        experiments_table(
            {name: load_experiment(find_experiment(name)) for name in experiment_names()}
        )
    )
    assert "60.7 (measured elsewhere)" in text
    assert text.count("ours: not measured") == sum(
        all(e.source != "recorded" for e in load_experiment(find_experiment(name)).expected)
        for name in experiment_names()
    )
    assert run_verb("reproduce", ["--list"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no experiment is given"),
        (["digits", "--seeds=0"], "--seeds 0 is below 1"),
        (["nothing"], "is neither a file nor a shipped experiment"),
        ([str(ROOT / "configs" / "datasets" / "digits.yaml")], "lacks the block 'experiment'"),
    ],
)
def test_wrong_requests_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert run_verb("reproduce", arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method: METHOD", "method: magic", "experiment.method"),
        ("novel: 50", "novel: 500", "experiment.expected.0..metrics.task_aware/train/novel"),
        ("tolerance: 100", "tolerance: 0", "experiment.expected.0..tolerance"),
    ],
)
def test_a_wrong_experiment_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "row.yaml"
    file.write_text(TINY.replace(old, new).replace("METHOD", "discover"))
    with pytest.raises(InputError, match=message):
        load_experiment(file)
