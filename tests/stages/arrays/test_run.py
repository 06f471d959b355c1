from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from crkd.stages.arrays.run import discover_features, prepare_features
from crkd.stages.arrays.vectors import lengthened

from crkd.commands.main import run_verb
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.load import open_run
from crkd.training.interruption import Interrupted

CPU = torch.device("cpu")
KNOWN, NOVEL, EACH, WIDTH = 3, 2, 40, 12
SHORT = ("features.min_steps=90", "discover.batch_size=64", "model.hidden=32")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Five clouds far apart, as Parquet files; the novel ones with their hidden labels."""
    folder = tmp_path_factory.mktemp("features")
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(KNOWN + NOVEL, WIDTH)) * 4
    classes = np.arange(KNOWN + NOVEL).repeat(EACH)
    rows = (centers[classes] + generator.normal(size=(len(classes), WIDTH))).astype(np.float32)
    for name, part in (("known", classes < KNOWN), ("novel", classes >= KNOWN)):
        save(folder / f"{name}.parquet", rows[part], [f"c{c}" for c in classes[part]])
    return [str(folder / "known.parquet"), str(folder / "novel.parquet")]


def save(file: Path, rows: np.ndarray, labels: list[str] | None) -> None:
    columns = {"f": pa.array(list(rows), pa.list_(pa.float32(), rows.shape[1]))}
    if labels is not None:
        columns["label"] = pa.array(labels)
    pq.write_table(pa.table(columns), file)


def config_of(files: list[str], *settings: str, **flags: object) -> Config:
    given = {"dataset": "features", "data": {"features": files}, **flags}
    return load_config(None, [*SHORT, *settings], given)


@pytest.fixture(scope="module")
def run(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "found"
    return discover_features(config_of(files), out).path


def test_clouds_far_apart_are_recovered_exactly(run: Path):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task_aware"]["train"]["novel"]["acc"] == 1.0
    assert metrics["task_agnostic"]["test"]["known"]["acc"] == 1.0
    table = load_predictions(run / "predictions.parquet")
    assert set(table.baselines) == {"kmeans_features"}
    assert table.of("train").sum() == NOVEL * EACH
    # A tenth of each known class is held out and stands in the place of a test set.
    assert table.of("test").sum() == KNOWN * EACH // 10


def test_prototypes_of_clusters_know_far_clouds_before_training(files: list[str], tmp_path: Path):
    settings = ("discover.prototypes=kmeans", "features.min_steps=1", "discover.epochs=1")
    short = config_of(files, *settings, "discover.optimizer.lr=1e-6")
    run = discover_features(short, tmp_path / "out")
    assert run.read_metrics()["task_aware"]["train"]["novel"]["acc"] == 1.0


def test_an_opened_run_answers_as_its_predictions_say(run: Path):
    opened = open_run(run, CPU)
    assert opened.architecture.backbone == "features"
    data = prepare_features(opened.config, CPU)
    answers = data.outputs(opened.network, data.subsets.novel_train)
    table = load_predictions(run / "predictions.parquet")
    np.testing.assert_array_equal(table.joint_heads[:, table.of("train")], answers.joint)
    assert opened.info.chosen_head == table.chosen_head


def test_the_same_seed_gives_the_same_run(files: list[str], run: Path, tmp_path: Path):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    again = discover_features(config_of(files), tmp_path / "again").path
    for name in ("model.safetensors", "metrics.json"):
        assert (again / name).read_bytes() == (run / name).read_bytes()
    other = discover_features(config_of(files, seed=1), tmp_path / "other").path
    assert (other / "model.safetensors").read_bytes() != (run / "model.safetensors").read_bytes()


def test_scrambled_hidden_labels_leave_the_weights_as_they_are(
    files: list[str], run: Path, tmp_path: Path
):
    table = pq.read_table(files[1])
    labels = table.column("label").to_pylist()[::-1]
    scrambled = str(tmp_path / "novel.parquet")
    save(Path(scrambled), np.array(table.column("f").to_pylist(), np.float32), labels)
    again = discover_features(config_of([files[0], scrambled]), tmp_path / "again").path
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert (again / "metrics.json").read_bytes() == (run / "metrics.json").read_bytes()
    labels = np.random.default_rng(0).permutation(labels).tolist()
    save(Path(scrambled), np.array(table.column("f").to_pylist(), np.float32), labels)
    other = discover_features(config_of([files[0], scrambled]), tmp_path / "other").path
    assert (other / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert (other / "metrics.json").read_bytes() != (run / "metrics.json").read_bytes()


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    files: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from crkd.stages.arrays.run import Loop

    honest, out = Loop.step, tmp_path / "cut"

    def stopping(self, batch, step):  # type: ignore[no-untyped-def]
        honest(self, batch, step)
        if step == 40:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Loop, "step", stopping)
    with pytest.raises(Interrupted, match="--resume"):
        discover_features(config_of(files), out)
    monkeypatch.setattr(Loop, "step", honest)
    discover_features(config_of(files), out, resume=True)
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_a_method_for_images_is_refused(files: list[str], tmp_path: Path):
    with pytest.raises(InputError, match=r"discover\.method 'frost' does not apply to features"):
        discover_features(config_of(files, "discover.method=frost"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_small_sets_get_more_epochs_and_only_once(files: list[str]):
    config = config_of(files, "features.min_steps=90", "discover.epochs=1", "pretrain.epochs=1")
    longer = lengthened(config, 128, 128)
    # 256 samples in batches of 64 are 4 steps; 128 in batches of 256 at most are one.
    assert (longer.discover.epochs, longer.pretrain.epochs) == (23, 30)
    assert lengthened(longer, 128, 128) == longer
    assert lengthened(config, 128_000, 128_000) == config


def test_the_command_makes_a_run(files: list[str], tmp_path: Path):
    flags = [part for setting in SHORT for part in ("--set", setting)]
    out = tmp_path / "run"
    assert run_verb("discover", ["--features", *files, *flags, "--out", str(out)]) == 0
    assert json.loads((out / "run.json").read_text())["status"] == "complete"


@pytest.mark.parametrize("flag", [["--known", "x"], ["--dataset", "digits"], ["--pretrain"]])
def test_flags_about_images_do_not_go_with_features(
    files: list[str], flag: list[str], capsys: pytest.CaptureFixture[str]
):
    assert run_verb("discover", ["--features", *files, *flag]) == 2
    assert f"{flag[0]} does not go with --features" in capsys.readouterr().err


def test_what_cannot_be_run_is_refused_before_a_folder_is_made(files: list[str], tmp_path: Path):
    out = tmp_path / "out"
    bare = str(tmp_path / "bare.npy")
    np.save(bare, np.ones((4, WIDTH)))
    for config, message in (
        (config_of([files[0], bare]), "--num-novel"),
        (config_of([files[0], bare], discover={"num_novel": 5}), "exceeds the 4 unlabeled"),
        (config_of(files[:1]), "names 1 files"),
        (config_of(files, split="5-5"), "do not apply to feature files"),
    ):
        with pytest.raises(InputError, match=message):
            discover_features(config, out)
        assert not out.exists()
