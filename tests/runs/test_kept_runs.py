"""Run folders of earlier versions, kept in this repository, open and answer as they did."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.commands.main import run_verb
from crkd.data.datasets.base import load_dataset
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.folder import SCHEMA_VERSION, RunFolder
from crkd.runs.load import open_run
from crkd.stages.run_data import prepare

KEPT = Path(__file__).parent / "kept"
SCHEMAS = sorted(folder.name for folder in KEPT.glob("schema-*"))
KINDS = {"pretrained": "supervised", "discovered": "discovered"}
CPU = torch.device("cpu")
every_schema = pytest.mark.parametrize("schema", SCHEMAS)
every_run = pytest.mark.parametrize("name", KINDS)


@pytest.fixture
def kept(schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the runs of a schema, since some commands write into a run folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(KEPT / schema, tmp_path / "runs")


def test_the_present_schema_is_kept() -> None:
    assert f"schema-{SCHEMA_VERSION}" in SCHEMAS
    for schema in SCHEMAS:
        assert {folder.name for folder in (KEPT / schema).iterdir()} == KINDS.keys()
        sizes = [file.stat().st_size for file in (KEPT / schema).rglob("*") if file.is_file()]
        assert sum(sizes) < 900_000


@every_schema
@every_run
def test_it_answers_as_it_did(kept: Path, name: str) -> None:
    opened = open_run(kept / name, CPU)
    assert (opened.info.kind, opened.info.status) == (KINDS[name], "complete")
    data = prepare(opened.config, CPU)
    table = load_predictions(kept / name / "predictions.parquet")
    for part, subset in data.evaluated().items():
        answers = data.outputs(opened.network, subset)
        rows = table.of(part)
        pairs = [(answers.known, table.known_head[rows])]
        if name == "discovered":
            pairs += [(answers.novel, table.novel_heads[:, rows])]
            pairs += [(answers.joint, table.joint_heads[:, rows])]
        for now, then in pairs:
            # Another version of torch may round two near logits the other way.
            assert (now == then).mean() >= 0.99


@every_schema
@every_run
def test_its_figures_are_those_that_it_had(
    kept: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("evaluate", [str(kept / name), "--json"]) == 0
    now = json.loads(capsys.readouterr().out)
    then = RunFolder.open(kept / name).read_metrics()
    # Figures may be added by later versions; those that there were stay what they were.
    then.pop("validation")
    assert_kept(now, then, name)


def assert_kept(now: object, then: object, place: str) -> None:
    if isinstance(then, dict):
        assert isinstance(now, dict)
        for key, value in then.items():
            assert key in now, f"{place}: {key}"
            assert_kept(now[key], value, f"{place}: {key}")
    elif isinstance(then, list):
        assert isinstance(now, list)
        assert len(now) == len(then)
        for number, (one, other) in enumerate(zip(now, then, strict=True)):
            assert_kept(one, other, f"{place}: {number}")
    elif isinstance(then, float):
        assert isinstance(now, float | int)
        assert math.isclose(now, then, rel_tol=1e-6, abs_tol=1e-9), place
    else:
        assert now == then, place


@every_schema
@every_run
def test_it_predicts(kept: Path, name: str, tmp_path: Path) -> None:
    test = load_dataset("digits").test
    assert test is not None
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20):
        Image.fromarray(test.read(number)).save(images / f"{number:02d}.png")
    out = tmp_path / "answers.csv"
    assert run_verb("predict", [str(kept / name), str(images), "--out", str(out)]) == 0
    table = load_predictions(kept / name / "predictions.parquet")
    info = RunFolder.open(kept / name).read_info()
    outputs = table.known_head if info.chosen_head is None else table.joint_heads[info.chosen_head]
    wanted = [info.classes[n].name for n in outputs[table.of("test")][:20]]
    with out.open() as file:
        found = {Path(row["path"]).stem: row["class_name"] for row in csv.DictReader(file)}
    assert [found[f"{number:02d}"] for number in range(20)] == wanted


@every_schema
def test_its_runs_are_compared(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = kept / "compared.json"
    runs = [str(kept / name) for name in KINDS]
    assert run_verb("compare", [*runs, "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in KINDS)
    assert len(json.loads(out.read_text())["runs"]) == 2


@every_schema
def test_it_is_reviewed(kept: Path) -> None:
    run = kept / "discovered"
    assert run_verb("review", [str(run)]) == 0
    page = (run / "review.html").read_text()
    names = [c.name for c in RunFolder.open(run).read_info().classes if c.is_novel]
    assert all(name in page for name in names)


SHORT = ["--device=cpu", "--set=discover.epochs=1", "--set=loop.loggers=[]"]
SHORT += ["--set=evaluation.baselines=[]"]


@every_schema
def test_a_discovery_starts_from_the_pretrained_run(kept: Path) -> None:
    out = kept / "again"
    sizes = ["--set=model.hidden=16", "--set=model.projection=8", "--set=model.num_heads=2"]
    flags = ["--set=data.validation_fraction=0.1", "--set=discover.batch_size=720", *sizes, *SHORT]
    start = ["--dataset", "digits", "--from", str(kept / "pretrained"), "--out", str(out)]
    assert run_verb("discover", [*start, *flags]) == 0
    info, parent = RunFolder.open(out).read_info(), RunFolder.open(kept / "pretrained").read_info()
    assert (info.kind, info.status) == ("discovered", "complete")
    assert info.parent is not None
    assert info.parent["model_sha256"] == parent.model_sha256
    assert info.classes == RunFolder.open(kept / "discovered").read_info().classes


@every_schema
def test_a_further_step_starts_from_the_discovered_run(kept: Path, tmp_path: Path) -> None:
    images = tmp_path / "new"
    images.mkdir()
    for number in range(40):
        shade = np.random.default_rng(number).integers(0, 40, (16, 16, 3), dtype=np.uint8)
        shade[:, 8 * (number % 2) : 8 * (number % 2) + 8] += 200
        Image.fromarray(shade).save(images / f"{number}.png")
    out = kept / "further"
    start = ["--from", str(kept / "discovered"), "--novel", str(images), "--num-novel", "2"]
    flags = ["--set=discover.batch_size=40", "--set=discover.precheck=false", *SHORT]
    assert run_verb("discover", [*start, *flags, "--out", str(out)]) == 0
    info, parent = RunFolder.open(out).read_info(), RunFolder.open(kept / "discovered").read_info()
    assert [c.name for c in info.classes[:10]] == [c.name for c in parent.classes]
    assert [c.kind for c in info.classes] == ["known"] * 10 + ["novel"] * 2
