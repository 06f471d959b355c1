"""Baselines that train a discovery: the configuration that they run with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from crkd.commands.main import run_verb
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.stages import run_data
from tests.support.small_runs import SMALL, interrupt_at
from tests.support.vector_clouds import cloud_files

pytestmark = pytest.mark.usefixtures("few_images")

FEW = [f"--set={setting}" for setting in (*SMALL, "pretrain.batch_size=16")]


def config_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> Config:
    """Return the configuration with which the verb would train."""
    seen: list[Config] = []

    def stop(config: Config, *rest: object, **options: object) -> None:
        seen.append(config)
        raise InputError("seen")

    monkeypatch.setattr("crkd.stages.discover.run.discover", stop)
    assert run_verb("baseline", [*words, "--from", "anywhere"]) == 2
    return seen[0]


def test_simgcd_has_the_views_and_batches_of_its_release(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("simgcd", "--set", "discover.num_small=2", "--set", "data.labeled_fraction=0.5")
    found = config_of(monkeypatch, *words)
    assert (found.discover.method, found.discover.num_small) == ("simgcd", 0)
    assert found.discover.labeled_share == 0.5
    assert found.mixed
    given = config_of(monkeypatch, "simgcd", "--set", "discover.labeled_share=0.3")
    assert given.discover.labeled_share == 0.3


def test_baselines_have_no_distillation_term_and_uno_alone_has_over_clustering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for words, factor in (
        (("uno",), 3),
        (("uno", "--set", "model.overclustering=7"), 7),
        (("swapped", "--set", "model.overclustering=7"), 0),
        (("simgcd", "--set", "model.overclustering=7"), 0),
    ):
        found = config_of(monkeypatch, *words)
        method = "simgcd" if words[0] == "simgcd" else "swapped"
        assert (found.discover.method, found.discover.distillation) == (method, ())
        assert found.model.overclustering == factor


@pytest.mark.parametrize("name", ["kmeans", "swapped"])
def test_a_baseline_that_stops_in_its_stage_1_is_continued_as_its_message_says(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [name, "--dataset=digits", *FEW, "--set=discover.batch_size=32", "--pretrain"]
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        assert run_verb("baseline", [*words, "--out", "mine"]) == 130
    assert "--out mine --resume" in capsys.readouterr().err
    assert run_verb("baseline", [*words, "--out", "mine", "--resume"]) == 0
    stage1, run = (RunFolder(tmp_path / place).read_info() for place in ("pretrain-seed0", "mine"))
    assert "resumed" in stage1.provenance
    assert (run.status, run.parent["model_sha256"]) == ("complete", stage1.model_sha256)


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("name", ["kmeans", "swapped", "supervised"])
def test_download_reaches_the_data_set_of_a_baseline(
    name: str, flag: bool, stage1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def load(*arguments: Any, download: bool = False, **options: Any) -> None:
        seen.append(download)
        raise InputError("seen")

    monkeypatch.setattr(run_data, "load_images", load)
    words = [name, "--dataset=digits", *FEW, "--out", str(tmp_path / "run")]
    if name != "supervised":
        words += ["--from", str(stage1)]
    assert run_verb("baseline", [*words, *["--download"] * flag]) == 2
    assert seen == [flag]


def test_an_interrupted_baseline_on_vectors_is_deleted_and_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crkd.stages.baselines.vectors.fit_baseline", interrupted)
    out = tmp_path / "run"
    words = ["kmeans", "--features", *cloud_files(tmp_path), "--out", str(out)]
    assert run_verb("baseline", words) == 130
    assert f"stopped; delete {out}, then give the same command" in capsys.readouterr().err
    assert run_verb("baseline", words) == 2
    said = capsys.readouterr().err
    assert said.endswith("holds an unfinished run; name another folder\n")
    shutil.rmtree(out)
    assert run_verb("baseline", words) == 130
