"""Discovery on feature vectors as a run folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crkd.clustering.class_count.estimate import ClassCount, estimate_class_count
from crkd.clustering.separation import CLOSE
from crkd.commands.main import main
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.vectors.table import FeatureTable
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.stages.vectors.class_count import estimate_on_vectors
from crkd.stages.vectors.data import vector_data
from crkd.stages.vectors.discovery import fit_discovery
from crkd.stages.vectors.images import read_tables
from crkd.stages.vectors.run import data_of_run, discover_vectors
from crkd.stages.vectors.stability import class_stability
from crkd.stages.vectors.start import opened_discovery
from crkd.stages.vectors.state import network_of
from crkd.training.interruption import Interrupted
from tests.support.completed_files import files_at_completion, files_of
from tests.support.vector_clouds import EACH, KMEANS, KNOWN, NOVEL, WIDTH, clouds, config_of, save

pytestmark = pytest.mark.usefixtures("few_steps", "few_draws")
CPU = torch.device("cpu")


def test_clouds_far_apart_are_recovered_and_the_contest_is_kept(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task_aware"]["train"]["novel"]["acc"] == 1.0
    assert metrics["task_agnostic"]["test"]["known"]["acc"] == 1.0
    table = load_predictions(run / "predictions.parquet")
    assert set(table.baselines) == {"kmeans_features"}
    assert table.of("train").sum() == NOVEL * EACH
    # A tenth of each known class is held out and used as the test set.
    assert table.of("test").sum() == KNOWN * EACH // 10
    contest = json.loads((run / "contest.json").read_text())
    assert len(contest["hidden"]) == 4
    assert {len(values) for values in contest["scores"].values()} == {4}
    stability = json.loads((run / "stability.json").read_text())
    assert list(stability.values()) == [1.0] * NOVEL


def test_resume_refuses_changed_vectors_but_not_changed_hidden_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, classes = clouds(1)
    known = classes < KNOWN
    names = [f"c{c}" for c in classes[known]]

    def files_of(known_rows: np.ndarray, labels: list[str], hidden: list[str]) -> list[str]:
        save(tmp_path / "known.parquet", known_rows, labels)
        save(tmp_path / "novel.parquet", rows[~known], hidden)
        return [str(tmp_path / "known.parquet"), str(tmp_path / "novel.parquet")]

    hidden = [f"c{c}" for c in classes[~known]]
    config = config_of(files_of(rows[known], names, hidden), KMEANS)
    with monkeypatch.context() as patch:
        patch.setattr("crkd.stages.vectors.run._discover", interrupted)
        with pytest.raises(Interrupted):
            discover_vectors(config, tmp_path / "run")
    other = rows[known].copy()
    other[5] += 0.5
    files_of(other, names, hidden)
    message = r"began: 1 with other content \('known/00005'\); restore it"
    with pytest.raises(InputError, match=message):
        discover_vectors(config, tmp_path / "run", resume=True)
    files_of(rows[known], [*names[:-1], names[0]], hidden)
    with pytest.raises(InputError, match=r"1 with other content \('known/00119'\)"):
        discover_vectors(config, tmp_path / "run", resume=True)
    files_of(rows[known], names, hidden[::-1])
    resumed = discover_vectors(config, tmp_path / "run", resume=True)
    assert resumed.read_info().status == "complete"
    assert not (resumed.path / "samples.parquet").exists()


def interrupted(*arguments: object) -> None:
    raise Interrupted("stopped")


def test_an_opened_run_predicts_as_its_table(run: Path) -> None:
    opened = open_run(run, CPU)
    data = vector_data(opened.config)
    outputs = data.outputs(opened.network, data.subsets.unlabeled)
    table = load_predictions(run / "predictions.parquet")
    np.testing.assert_array_equal(table.joint_heads[:, table.of("train")], outputs.joint)
    found = opened_discovery(RunFolder(run)).predict(data.of(data.subsets.unlabeled))
    np.testing.assert_allclose(
        torch.from_numpy(outputs.joint_logits(0)).log_softmax(-1), found.joint, atol=2e-4
    )


def test_the_network_is_the_discovery() -> None:
    """Spaces, gate and heads in torch against the discovery's own arithmetic, all methods."""
    rows, classes = clouds(2)
    vectors, labels = torch.from_numpy(rows), torch.from_numpy(classes)
    known = labels < KNOWN
    for method in ("plain_heads", "heads", "kmeans", "consensus"):
        found = fit_discovery(vectors[known], labels[known], vectors[~known], 3, method=method)
        out = network_of(found)([vectors])
        predicted = found.predict(vectors)
        joint = out.joint_logits()[0, 0].log_softmax(-1)
        torch.testing.assert_close(joint.float(), predicted.joint, atol=2e-4, rtol=1e-3)
        assert out.novel_logits is not None
        assert torch.equal(out.novel_logits[0, 0].argmax(-1), predicted.novel.argmax(-1))


def test_the_same_seed_gives_the_same_run(files: list[str], tmp_path: Path) -> None:
    first = discover_vectors(config_of(files, KMEANS), tmp_path / "first").path
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    second = discover_vectors(config_of(files, KMEANS), tmp_path / "second").path
    for name in ("model.safetensors", "metrics.json", "contest.json", "stability.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_scrambled_hidden_labels_change_neither_model_nor_contest(
    files: list[str], run: Path, tmp_path: Path
) -> None:
    rows, classes = clouds(1)
    novel = classes >= KNOWN
    scrambled = np.random.default_rng(5).permutation(classes[novel])
    file = tmp_path / "scrambled.parquet"
    save(file, rows[novel], [f"c{c}" for c in scrambled])
    again = discover_vectors(config_of([files[0], str(file)]), tmp_path / "again").path
    for name in ("model.safetensors", "contest.json", "stability.json"):
        assert (again / name).read_bytes() == (run / name).read_bytes()
    assert (again / "metrics.json").read_bytes() != (run / "metrics.json").read_bytes()


def test_a_second_step_needs_no_old_vector(run: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(9)
    rows = np.concatenate(
        [generator.normal(size=(EACH, WIDTH)) + 6 * sign for sign in (1, -1)]
    ).astype(np.float32)
    save(tmp_path / "next.parquet", rows, ["p"] * EACH + ["q"] * EACH)
    config = config_of([str(tmp_path / "next.parquet")])
    second = discover_vectors(config, tmp_path / "second", run)
    info = second.read_info()
    assert [entry.step for entry in info.classes] == [None] * KNOWN + [1] * NOVEL + [2] * 2
    assert second.read_metrics()["task_aware"]["train"]["novel"]["acc"] == 1.0
    network = open_run(second.path, CPU).network
    old, _ = clouds(1)
    joint = network([torch.from_numpy(old)]).joint_logits()[0, 0].argmax(-1).numpy()
    before = open_run(run, CPU).network([torch.from_numpy(old)]).joint_logits()[0, 0].argmax(-1)
    assert (joint == before.numpy()).mean() > 0.97
    with pytest.raises(
        InputError, match=r"(5\d|60) of 60 unlabeled samples fit a class that .* knows"
    ):
        discover_vectors(config, tmp_path / "third", second.path)
    assert not (tmp_path / "third").exists()
    config = config_of([str(tmp_path / "next.parquet")], "discover.precheck=false")
    third = discover_vectors(config, tmp_path / "third", second.path)
    assert third.read_info().architecture["groups"] == [NOVEL, 2]
    assert len(open_run(third.path, CPU).network([torch.from_numpy(old)]).known_logits[0, 0]) == 9


def test_run_and_vectors_can_be_moved_together(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    (place / "vectors").mkdir(parents=True)
    for file in files:
        (place / "vectors" / Path(file).name).write_bytes(Path(file).read_bytes())
    monkeypatch.chdir(tmp_path)
    names = ["place/vectors/known.parquet", "place/vectors/novel.parquet"]
    discover_vectors(config_of(names, KMEANS), "place/run")
    place.rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    data = data_of_run(RunFolder(tmp_path / "moved" / "run"))
    assert len(data.subsets.unlabeled) == NOVEL * EACH
    # The known classes anchor the estimate from the moved file too, also with other vectors.
    for novel in (None, tmp_path / "moved" / "vectors" / "novel.parquet"):
        found = estimate_on_vectors(tmp_path / "moved" / "run", novel, max_classes=6)
        assert (found.anchors, found.count.num_probes) == ("images", KNOWN)


def test_an_estimate_without_anchors_advises_no_flag_that_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(rows: np.ndarray, known: object, labels: object, **options: Any) -> ClassCount:
        return estimate_class_count(rows, **options)

    monkeypatch.setattr("crkd.stages.vectors.class_count.estimate_class_count", alone)
    notes = estimate_on_vectors(run, max_classes=6).notes
    assert "fewer than three known classes" in notes[0]
    assert not any("--known" in note for note in notes)


def test_an_estimate_on_the_vectors_of_the_run_reads_them_once(
    run: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, ...]] = []

    def tables(config: Config) -> list[FeatureTable]:
        read.append(config.data.features)
        return read_tables(config)

    monkeypatch.setattr("crkd.stages.vectors.data.read_tables", tables)
    estimate_on_vectors(run, max_classes=6)
    assert read == [tuple(files)]


def test_stability_matches_a_count_by_hand() -> None:
    assert class_stability(np.array([0, 0, 0, 1]), np.array([1, 1, 0, 0]), 2) == [2 / 3, 1 / 2]


@pytest.mark.parametrize(
    ("settings", "files_given", "wanted"),
    [
        (("discover.method=frost",), 2, "discover.method 'frost' does not apply to vectors"),
        (("discover.num_novel=500",), 2, "--num-novel 500 exceeds the 90 unlabeled vectors"),
        ((), 0, "data.features names 0 files; give 2"),
    ],
)
def test_refusals(
    files: list[str], settings: tuple[str, ...], files_given: int, wanted: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=wanted):
        discover_vectors(config_of(files[:files_given], *settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_vectors_like_known_ones_are_disputed(tmp_path: Path) -> None:
    rows, classes = clouds(1)
    # A third of the unlabeled vectors are of a known class.
    novel = (classes >= KNOWN) & (classes < KNOWN + 2) | (classes == 0)
    save(tmp_path / "known.parquet", rows[classes < KNOWN], [f"c{c}" for c in classes[: 4 * EACH]])
    save(tmp_path / "novel.parquet", clouds(3)[0][novel], None)
    files = [str(tmp_path / f"{name}.parquet") for name in ("known", "novel")]
    config = config_of(files, KMEANS, "discover.num_novel=2")
    found = discover_vectors(config, tmp_path / "run")
    table = load_predictions(found.path / "predictions.parquet")
    train = table.of("train")
    joint = dict(zip(table.id[train], table.joint_heads[0][train], strict=True))
    with (found.path / "disputed.csv").open(newline="") as file:
        listed = {row["image"]: row for row in csv.DictReader(file)}
    assert listed.keys() == {name for name, predicted in joint.items() if predicted < KNOWN}
    assert len(listed) > EACH / 2
    for name, row in listed.items():
        assert row["known_class"] == f"c{joint[name]}"
        assert row["class_name"] in ("novel-0", "novel-1")
        assert float(row["probability"]) < float(row["known_probability"])
    notes = " ".join(found.read_info().notes)
    assert f"{len(listed)} of 90 unlabeled images look like known" in notes
    assert "if unlabeled images may be of known classes, add --mixed" in notes


def test_halves_of_a_class_are_named(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    truth = np.arange(3).repeat(100)
    rows = 8 * np.eye(3, WIDTH)[truth] + generator.normal(size=(len(truth), WIDTH))
    save(tmp_path / "novel.parquet", rows.astype(np.float32), [f"c{c}" for c in truth])
    for count in (3, 4):
        settings = ("vectors.method=kmeans", f"discover.num_novel={count}")
        config = config_of([str(tmp_path / "novel.parquet")], *settings)
        found = discover_vectors(config, tmp_path / f"run-{count}")
        pairs = json.loads((found.path / "clusters.json").read_text())["merge"]
        assert len(pairs) == count - 3
    first, second = (int(name.removeprefix("novel-")) for name in pairs[0]["classes"])
    table = load_predictions(found.path / "predictions.parquet")
    owners = [set(table.label[table.novel_heads[0] == cluster]) for cluster in (first, second)]
    assert owners[0] == owners[1]
    assert 0 < pairs[0]["separation"] <= CLOSE
    note = f"may be one class: novel-{first} and novel-{second};"
    assert note in " ".join(found.read_info().notes)


def test_the_number_of_classes_is_estimated(files: list[str], tmp_path: Path) -> None:
    found = discover_vectors(config_of(files, KMEANS, "discover.num_novel=auto"), tmp_path / "run")
    assert found.read_info().num_novel == NOVEL


def test_estimate_k_takes_such_a_run(
    run: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate-k", str(run), "--max-k", "6"]) == 0
    assert f"novel classes: {NOVEL} (range " in capsys.readouterr().out
    assert main(["estimate-k", str(run), "--novel", files[1], "--max-k", "6"]) == 0
    assert f"novel classes: {NOVEL} (range " in capsys.readouterr().out
    assert main(["estimate-k", str(run), "--mixed"]) == 2
    assert "--mixed does not apply" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--backbone-weights absent", "--runtime torch"])
def test_flags_of_a_pretrained_network_are_refused_with_vectors(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["discover", "--features", "absent", "absent", "--out", str(tmp_path / "run")]
    assert main([*command, *flag.split()]) == 2
    assert f"{flag.split()[0]} does not go with --features" in capsys.readouterr().err


def test_nothing_is_written_after_the_run_is_complete(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed afterwards leaves a whole run."""
    complete = files_at_completion(monkeypatch)
    run = discover_vectors(config_of(files, KMEANS), tmp_path / "run")
    assert complete.keys() >= {"model.safetensors", "stability.json"}
    assert files_of(run.path) == complete
