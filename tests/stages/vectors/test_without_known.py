"""Discovery on vectors without known classes, and the commands on such a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from crkd.commands.main import main
from crkd.core.errors import InputError
from crkd.evaluation.matching import clustering_accuracy
from crkd.evaluation.predictions_file import load_predictions
from crkd.models.architecture import Architecture
from crkd.review.run_outputs import gather
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.stages.vectors.discovery import WITHOUT_LABELS, VectorDiscovery, fit_discovery, fit_known
from crkd.stages.vectors.run import discover_vectors
from crkd.stages.vectors.start import next_start
from crkd.stages.vectors.state import network_of
from tests.support.color_folders import EACH as IMAGES
from tests.support.color_folders import KNOWN as COLORS
from tests.support.color_folders import NEW, save_colors
from tests.support.review_decisions import applied
from tests.support.vector_clouds import EACH, KMEANS, KNOWN, NOVEL, WIDTH, clouds, config_of, save

CPU = torch.device("cpu")
NOBODY = torch.zeros(0, dtype=torch.int64)


def found_in(rows: np.ndarray, num_novel: int, **options: object) -> VectorDiscovery:
    vectors = torch.from_numpy(rows)
    return fit_discovery(vectors[:0], NOBODY, vectors, num_novel, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def alone(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on the file of novel vectors alone."""
    return discover_vectors(config_of(files[1:]), tmp_path_factory.mktemp("alone") / "run").path


def test_digits_are_found_better_than_by_kmeans_of_scikit_learn() -> None:
    digits, truth = load_digits(return_X_y=True)
    rows = digits.astype(np.float32)
    found = found_in(rows, 10)
    clusters = found.predict(torch.from_numpy(rows)).joint.argmax(1).numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    baseline = KMeans(10, n_init=10, random_state=0).fit_predict(unit)
    gain = clustering_accuracy(clusters, truth) - clustering_accuracy(baseline, truth)
    assert gain > 0.03
    assert (found.num_known, found.num_classes) == (0, 10)
    assert found.contest.chosen == WITHOUT_LABELS


@pytest.mark.parametrize("method", ["kmeans", "merging", "consensus"])
@pytest.mark.usefixtures("few_steps")
def test_the_network_is_the_discovery(method: str) -> None:
    rows, classes = clouds(2)
    found = found_in(rows, KNOWN + NOVEL, method=method)
    out = network_of(found)([torch.from_numpy(rows)])
    assert out.known_logits.shape == (1, len(rows), 0)
    joint = out.joint_logits()[0, 0].log_softmax(-1)
    predicted = found.predict(torch.from_numpy(rows))
    torch.testing.assert_close(joint.float(), predicted.joint, atol=2e-4, rtol=1e-3)
    assert clustering_accuracy(joint.argmax(-1).numpy(), classes) == 1.0


def test_no_known_class_and_no_unlabeled_vector_are_refused() -> None:
    nothing = torch.zeros(0, WIDTH)
    with pytest.raises(InputError, match="unlabeled has shape"):
        fit_known(nothing, NOBODY, nothing)
    with pytest.raises(InputError, match="known_labels has shape"):
        fit_discovery(torch.ones(3, WIDTH), NOBODY, torch.ones(3, WIDTH), 2)


def test_a_network_for_images_needs_a_known_class() -> None:
    with pytest.raises(InputError, match="known from the start"):
        Architecture("resnet8", 32, num_known=0, num_novel=2)
    with pytest.raises(InputError, match="known from the start"):
        Architecture("resnet8", 32, num_known=2, groups=(2,))
    with pytest.raises(InputError, match="needs a class"):
        Architecture("vectors", 12, num_known=0)


@pytest.mark.usefixtures("few_steps")
def test_a_run_is_written_and_evaluated(alone: Path) -> None:
    info = RunFolder(alone).read_info()
    assert (info.num_known, info.num_novel) == (0, NOVEL)
    assert [entry.step for entry in info.classes] == [1] * NOVEL
    metrics = RunFolder(alone).read_metrics()
    assert metrics["task_aware"]["train"]["novel"]["acc"] == 1.0
    assert metrics["task_agnostic"]["test"]["known"]["acc"] is None
    table = load_predictions(alone / "predictions.parquet")
    assert table.num_known == 0
    assert set(table.known_head.tolist()) == {-1}
    assert (table.joint_heads == table.novel_heads).all()
    assert set(table.baselines) == {"kmeans_features"}
    assert json.loads((alone / "contest.json").read_text())["scores"] == {}


@pytest.mark.usefixtures("few_steps")
def test_scrambled_hidden_labels_change_nothing_but_the_metrics(
    alone: Path, tmp_path: Path
) -> None:
    rows, classes = clouds(1)
    novel = classes >= KNOWN
    scrambled = np.random.default_rng(5).permutation(classes[novel])
    save(tmp_path / "scrambled.parquet", rows[novel], [f"c{c}" for c in scrambled])
    again = discover_vectors(config_of([str(tmp_path / "scrambled.parquet")]), tmp_path / "again")
    for name in ("model.safetensors", "contest.json", "stability.json", "outliers.json"):
        assert (again.path / name).read_bytes() == (alone / name).read_bytes()
    assert again.read_metrics() != RunFolder(alone).read_metrics()


@pytest.mark.usefixtures("few_steps")
def test_further_steps_keep_the_classes_of_the_first(
    alone: Path, files: list[str], tmp_path: Path
) -> None:
    """The vectors of the second step are those of four other clouds."""
    second = discover_vectors(
        config_of(files[:1], "discover.num_novel=4"), tmp_path / "second", alone
    )
    info = second.read_info()
    assert [entry.step for entry in info.classes] == [1] * NOVEL + [2] * KNOWN
    assert second.read_metrics()["task_aware"]["train"]["novel"]["acc"] == 1.0
    rows, classes = clouds(7)
    before, after = (
        open_run(run, CPU).network([torch.from_numpy(rows)]).joint_logits()[0, 0].argmax(-1).numpy()
        for run in (alone, second.path)
    )
    # Vectors of the first step are of the same classes as before, to the last one.
    assert (after[classes >= KNOWN] == before[classes >= KNOWN]).all()
    assert clustering_accuracy(after, classes) == 1.0
    rows = np.random.default_rng(3).normal(size=(2 * EACH, WIDTH)).astype(np.float32)
    rows += np.repeat([[9.0], [-9.0]], EACH, axis=0).astype(np.float32)
    save(tmp_path / "third.parquet", rows, None)
    config = config_of([str(tmp_path / "third.parquet")], "discover.num_novel=2")
    third = discover_vectors(config, tmp_path / "third", second.path)
    assert third.read_info().architecture["groups"] == [NOVEL, KNOWN]


@pytest.mark.usefixtures("few_steps")
def test_a_run_of_one_class_is_extended(tmp_path: Path) -> None:
    rows, classes = clouds(1)
    for name, part in (("one", classes == 0), ("others", (classes == 1) | (classes == 2))):
        save(tmp_path / f"{name}.parquet", rows[part], None)
    one, two = (
        config_of([str(tmp_path / f"{name}.parquet")], KMEANS, f"discover.num_novel={count}")
        for name, count in (("one", 1), ("others", 2))
    )
    first = discover_vectors(one, tmp_path / "first").path
    second = discover_vectors(two, tmp_path / "second", first)
    assert second.read_info().architecture["groups"] == [1]
    network = open_run(second.path, CPU).network
    predicted = network([torch.from_numpy(rows)]).joint_logits()[0, 0].argmax(-1).numpy()
    learned = classes < 3
    assert clustering_accuracy(predicted[learned], classes[learned]) == 1.0
    with pytest.raises(InputError, match=rf"\d\d of {EACH} unlabeled samples fit a class that"):
        discover_vectors(one, tmp_path / "again", first)
    # Without reference vectors, only the free energy is left, which is the same for all vectors.
    (first / "outliers.json").write_text(json.dumps({"threshold": 1e9}))
    assert next_start(one, RunFolder(first)).fresh.sum() == EACH


def test_the_mixed_setting_needs_a_known_class(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no class is known"):
        discover_vectors(config_of(files[1:], "discover.mixed=true"), tmp_path / "run")
    command = ["discover", "--features", files[1], "--mixed", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "--mixed is for unlabeled samples" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of ``crkd discover --novel DIR`` on a flat folder of images of five colors."""
    root = tmp_path_factory.mktemp("colors")
    save_colors(COLORS | NEW, root / "photos", nested=False)
    out = root / "runs" / "first"
    command = ["discover", "--novel", str(root / "photos"), "--num-novel", "5", "--out", str(out)]
    assert main([*command, "--image-size", "64", "--runtime", "torch"]) == 0
    return out


@pytest.mark.usefixtures("few_steps")
def test_photographs_without_any_label_become_classes(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = photographs.parents[1] / "photos", tmp_path / "p.json"
    assert main(["predict", str(photographs), str(photos), "--out", str(out)]) == 0
    images = json.loads(out.read_text())["images"]
    assert {image["kind"] for image in images} == {"novel"}
    assert all(image["nearest_known"] == {} for image in images)
    truth = [list(COLORS | NEW).index(Path(i["path"]).name.split("-")[0]) for i in images]
    assert clustering_accuracy([image["class_id"] for image in images], truth) > 0.9
    command = ["distill", "--teacher", str(photographs), "--out", str(tmp_path / "student")]
    assert main(command) == 2
    assert "began without labeled images" in capsys.readouterr().err


@pytest.mark.usefixtures("few_steps")
def test_a_review_merges_and_names_the_classes(photographs: Path, tmp_path: Path) -> None:
    assert main(["review", str(photographs), "--out", str(tmp_path / "page.html")]) == 0
    evidence = gather(photographs, CPU)
    classes = [
        {"id": 0, "action": "accept", "name": "kept"},
        {"id": 1, "action": "merge", "into": 0},
        {"id": 2, "action": "accept", "name": "other"},
        {"id": 3, "action": "reject"},
        {"id": 4, "action": "accept", "name": "third"},
    ]
    named = RunFolder(applied(tmp_path, evidence, classes))
    assert [entry.name for entry in named.read_info().classes] == ["kept", "other", "third"]
    before, after = (
        load_predictions(run / "predictions.parquet") for run in (photographs, named.path)
    )
    assert after.id.tolist() == before.id.tolist()
    assert len(after.id) == 5 * IMAGES
    # The images of the rejected class have no class of their own; all others keep theirs.
    wanted = np.array([0, 0, 1, -1, 2])[before.novel_heads[0]]
    assert (after.novel_heads[0] == wanted)[wanted >= 0].all()
    assert set(after.novel_heads[0].tolist()) == {0, 1, 2}
