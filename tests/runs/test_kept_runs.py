"""Run folders of earlier versions, kept in this repository, open and predict as they did."""

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
from tests.runs.kept.vectors import FILES, write_vectors

KEPT = Path(__file__).parent / "kept"
SCHEMAS = sorted(folder.name for folder in KEPT.glob("schema-*"))
KINDS = {
    "pretrained": "supervised",
    "discovered": "discovered",
    "distilled": "distilled",
    "reviewed": "discovered",
    "vectors": "discovered",
    "incremental": "discovered",
}
OF_VECTORS = {"vectors": "novel", "incremental": "later"}
"""Runs on vectors, and the file of :mod:`tests.runs.kept.vectors` that each has discovered."""
OF_IMAGES = [name for name in KINDS if name not in OF_VECTORS]
CPU = torch.device("cpu")
SHORT = ["--device=cpu", "--set=discover.epochs=1", "--set=loop.loggers=[]"]
SHORT += ["--set=evaluation.baselines=[]"]
every_schema = pytest.mark.parametrize("schema", SCHEMAS)
every_run = pytest.mark.parametrize("name", KINDS)
every_run_of_images = pytest.mark.parametrize("name", OF_IMAGES)
every_run_of_vectors = pytest.mark.parametrize("name", OF_VECTORS)


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
        assert sum(sizes) < 1_800_000


@every_schema
@every_run_of_images
def test_its_predictions_are_unchanged(kept: Path, name: str) -> None:
    opened = open_run(kept / name, CPU)
    assert (opened.info.kind, opened.info.status) == (KINDS[name], "complete")
    data = prepare(opened.config, CPU)
    table = load_predictions(kept / name / "predictions.parquet")
    for part, subset in data.evaluated().items():
        outputs = data.outputs(opened.network, subset)
        rows = table.of(part)
        pairs = [(outputs.known, table.known_head[rows])]
        if name != "pretrained":
            pairs += [(outputs.novel, table.novel_heads[:, rows])]
            pairs += [(outputs.joint, table.joint_heads[:, rows])]
        for now, then in pairs:
            # Another version of torch may round two near logits the other way.
            assert (now == then).mean() >= 0.99


@every_schema
@every_run
def test_its_metrics_are_unchanged(
    kept: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("evaluate", [str(kept / name), "--json"]) == 0
    now = json.loads(capsys.readouterr().out)
    then = RunFolder.open(kept / name).read_metrics()
    # Later versions may add metrics; the earlier ones keep their values.
    then.pop("validation", None)
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
@every_run_of_images
def test_it_predicts(kept: Path, name: str, tmp_path: Path) -> None:
    test = load_dataset("digits").test
    assert test is not None
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20):
        Image.fromarray(test.read(number)).save(images / f"{number:02d}.png")
    out = tmp_path / "predictions.csv"
    assert run_verb("predict", [str(kept / name), str(images), "--out", str(out)]) == 0
    table = load_predictions(kept / name / "predictions.parquet")
    info = RunFolder.open(kept / name).read_info()
    outputs = table.known_head if info.chosen_head is None else table.joint_heads[info.chosen_head]
    wanted = [info.classes[n].name for n in outputs[table.of("test")][:20]]
    with out.open() as file:
        found = {Path(row["path"]).stem: row["class_name"] for row in csv.DictReader(file)}
    assert [found[f"{number:02d}"] for number in range(20)] == wanted


@every_schema
@every_run_of_vectors
def test_it_predicts_vectors(kept: Path, name: str, tmp_path: Path) -> None:
    write_vectors(tmp_path)
    out, file = tmp_path / "predictions.csv", tmp_path / f"{OF_VECTORS[name]}.npz"
    assert run_verb("predict", [str(kept / name), str(file), "--out", str(out)]) == 0
    table = load_predictions(kept / name / "predictions.parquet")
    info = RunFolder.open(kept / name).read_info()
    assert info.chosen_head is not None
    wanted = dict(zip(table.id, table.novel_heads[info.chosen_head], strict=True))
    num_known = sum(not entry.is_novel for entry in info.classes)
    with out.open() as stream:
        found = {row["path"]: row["class_name"] for row in csv.DictReader(stream)}
    assert len(found) == 16 * len(FILES[OF_VECTORS[name]])
    for path, class_name in found.items():
        assert class_name == info.classes[num_known + wanted[path]].name


@every_schema
def test_the_distilled_network_is_exported(kept: Path) -> None:
    out = kept / "x.pt2"
    run = str(kept / "distilled")
    assert run_verb("export", [run, "--format", "torch", "--out", str(out)]) == 0
    program = torch.export.load(out).module()
    assert program(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)) is not None


@every_schema
def test_the_labels_of_the_reviewed_run_are_exported(kept: Path, tmp_path: Path) -> None:
    images, table, out = tmp_path / "images", tmp_path / "table.csv", kept / "labels.json"
    images.mkdir()
    test = load_dataset("digits").test
    assert test is not None
    for number in range(20):
        Image.fromarray(test.read(number)).save(images / f"{number:02d}.png")
    run = str(kept / "reviewed")
    assert run_verb("predict", [run, str(images), "--out", str(table)]) == 0
    flags = ["--predictions", str(table), "--all", "--out", str(out)]
    assert run_verb("export", [run, "--format", "fiftyone", *flags]) == 0
    written = json.loads(out.read_text())
    labels = {
        Path(p).stem: written["classes"][entry["label"]] for p, entry in written["labels"].items()
    }
    with table.open() as file:
        names = {Path(row["path"]).stem: row["class_name"] for row in csv.DictReader(file)}
    assert labels == names
    assert {"round one", "narrow one"} & set(names.values())


@every_schema
@every_run_of_vectors
def test_vectors_of_unknown_origin_have_no_network_to_export(
    kept: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = kept / "x.pt2"
    assert run_verb("export", [str(kept / name), "--format", "torch", "--out", str(out)]) == 2
    assert "was made of vectors of unknown origin" in capsys.readouterr().err


@every_schema
def test_a_step_extends_the_run_on_vectors(kept: Path, tmp_path: Path) -> None:
    write_vectors(tmp_path)
    start = ["--from", str(kept / "vectors"), "--features", str(tmp_path / "later.npz")]
    out = kept / "again"
    assert run_verb("discover", [*start, "--num-novel", "1", "--out", str(out), *SHORT[:1]]) == 0
    info, then = (RunFolder.open(kept / name).read_info() for name in ("again", "incremental"))
    assert info.classes == then.classes


@every_schema
def test_its_runs_are_compared(kept: Path) -> None:
    out = kept / "compared.json"
    # A review changes neither method nor seed, so it is compared without the run that it names.
    for compared in ({*KINDS} - {"reviewed"}, {"reviewed", "distilled"}):
        runs = [str(kept / name) for name in sorted(compared)]
        assert run_verb("compare", [*runs, "--json", str(out)]) == 0
        entries = json.loads(out.read_text())["runs"]
        assert {entry["run"] for entry in entries} == compared


@every_schema
def test_it_is_reviewed(kept: Path) -> None:
    run = kept / "discovered"
    assert run_verb("review", [str(run)]) == 0
    page = (run / "review.html").read_text()
    names = [c.name for c in RunFolder.open(run).read_info().classes if c.is_novel]
    assert all(name in page for name in names)


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
