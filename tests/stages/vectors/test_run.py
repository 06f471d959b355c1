"""Discovery on feature vectors as a run folder, and every verb on such a run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from crkd.commands.main import main
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.storage.resize import fit_square
from crkd.evaluation.predictions_file import load_predictions
from crkd.review.decisions import FORMAT, VERSION
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.stages.vectors.data import vector_data
from crkd.stages.vectors.discovery import fit_discovery
from crkd.stages.vectors.run import data_of_run, discover_vectors
from crkd.stages.vectors.stability import class_stability
from crkd.stages.vectors.start import opened_discovery
from crkd.stages.vectors.state import network_of
from crkd.training.interruption import Interrupted
from tests.support.color_folders import NEW, color_folders, discover_colors

CPU = torch.device("cpu")
KNOWN, NOVEL, EACH, WIDTH = 4, 3, 30, 12
KMEANS = "vectors.method=whitened_kmeans"


def clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of clouds far apart, and their classes."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(KNOWN + NOVEL, WIDTH)) * 4
    classes = np.arange(KNOWN + NOVEL).repeat(EACH)
    noise = np.random.default_rng(seed).normal(size=(len(classes), WIDTH))
    return (centers[classes] + noise).astype(np.float32), classes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two files of vectors; the novel one with its hidden labels."""
    folder = tmp_path_factory.mktemp("features")
    rows, classes = clouds(1)
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
    return load_config(None, [*settings], given)


@pytest.fixture(scope="module")
def run(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "found"
    return discover_vectors(config_of(files), out).path


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


def test_stability_matches_a_count_by_hand() -> None:
    assert class_stability(np.array([0, 0, 0, 1]), np.array([1, 1, 0, 0]), 2) == [2 / 3, 1 / 2]


@pytest.mark.parametrize(
    ("settings", "files_given", "wanted"),
    [
        (("discover.method=frost",), 2, "discover.method 'frost' does not apply to vectors"),
        (("discover.num_novel=500",), 2, "--num-novel 500 exceeds the 90 unlabeled vectors"),
        ((), 1, "data.features names 1 files; give 2"),
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
    assert f"{len(listed)} of 90 unlabeled images look like known" in " ".join(
        found.read_info().notes
    )


def mixed_files(folder: Path, hidden: list[str] | None = None) -> list[str]:
    """Two thirds of the unlabeled vectors are of known classes."""
    rows, classes = clouds(1)
    known, novel = classes < KNOWN, classes >= KNOWN
    more = clouds(3)[0][known]
    truth = [f"c{c}" for c in (*classes[known], *classes[novel])]
    save(folder / "known.parquet", rows[known], [f"c{c}" for c in classes[known]])
    save(folder / "novel.parquet", np.concatenate([more, rows[novel]]), hidden or truth)
    return [str(folder / f"{name}.parquet") for name in ("known", "novel")]


MIXED = (KMEANS, "discover.mixed=true", f"discover.num_novel={NOVEL}")


def test_mixed_vectors_are_predicted_and_scored_over_all_classes(tmp_path: Path) -> None:
    found = discover_vectors(config_of(mixed_files(tmp_path), *MIXED), tmp_path / "run")
    table = load_predictions(found.path / "predictions.parquet")
    train = table.of("train")
    assert train.sum() == (KNOWN + NOVEL) * EACH
    joint = table.joint_heads[0][train]
    known = np.arange(KNOWN).repeat(EACH)
    assert (joint[: KNOWN * EACH] == known).mean() > 0.95
    assert (joint[KNOWN * EACH :] >= KNOWN).mean() > 0.95
    assert not table.baselines
    assert not (found.path / "disputed.csv").exists()
    measured = json.loads((found.path / "known-filter.json").read_text())
    assert measured["known_share"] == pytest.approx(KNOWN / (KNOWN + NOVEL), abs=0.15)


def test_hidden_labels_change_nothing_in_the_mixed_setting(tmp_path: Path) -> None:
    names = [f"c{c}" for c in (*range(KNOWN), *range(KNOWN + NOVEL)) for _ in range(EACH)]
    runs = []
    for name, truth in (("one", None), ("other", names[::-1][: (KNOWN + NOVEL) * EACH])):
        (tmp_path / name).mkdir()
        files = mixed_files(tmp_path / name, truth)
        runs.append(discover_vectors(config_of(files, *MIXED), tmp_path / name / "run"))
    assert runs[0].read_info().model_sha256 == runs[1].read_info().model_sha256


def test_the_other_half_of_known_vectors_is_unlabeled(files: list[str], tmp_path: Path) -> None:
    """With a labeled fraction, the run is one of generalized category discovery."""
    config = config_of(files, KMEANS, "data.labeled_fraction=0.5")
    found = discover_vectors(config, tmp_path / "run")
    table = load_predictions(found.path / "predictions.parquet")
    train = table.of("train")
    assert train.sum() == (KNOWN // 2 + NOVEL) * EACH
    assert ((table.label < KNOWN) & train).sum() == KNOWN // 2 * EACH
    right = table.joint_heads[0] == table.label
    assert right[train & (table.label < KNOWN)].mean() > 0.9


def test_a_step_recognizes_vectors_of_earlier_classes(run: Path, tmp_path: Path) -> None:
    """Among the new vectors are some of a known and of a discovered class."""
    rows, classes = clouds(5)
    old = (classes == 0) | (classes == KNOWN)
    fresh = np.random.default_rng(9).normal(size=(2 * EACH, WIDTH))
    centers = np.random.default_rng(8).normal(size=(2, WIDTH)) * 4
    new = (fresh + centers.repeat(EACH, axis=0)).astype(np.float32)
    save(tmp_path / "next.parquet", np.concatenate([rows[old], new]), None)
    config = config_of(
        [str(tmp_path / "next.parquet")], KMEANS, "discover.mixed=true", "discover.num_novel=2"
    )
    found = discover_vectors(config, tmp_path / "run", run)
    joint = load_predictions(found.path / "predictions.parquet").joint_heads[0]
    before = KNOWN + NOVEL
    assert (joint[: 2 * EACH] < before).mean() > 0.9
    assert (joint[2 * EACH :] >= before).mean() > 0.9
    assert (joint[:EACH] == 0).mean() > 0.9


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


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images of one color for each class: labeled folders, and a flat unlabeled folder."""
    root = tmp_path_factory.mktemp("images")
    color_folders(root)
    return root


@pytest.fixture(scope="module")
def photographs(folders: Path) -> Path:
    """The run of ``crkd discover --known DIR --novel DIR``."""
    return discover_colors(folders)


def test_two_folders_become_a_run_that_predicts_images(
    photographs: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = load_predictions(photographs / "predictions.parquet")
    train = table.of("train")
    clusters = dict(zip(table.id[train], table.novel_heads[0][train], strict=True))
    by_color = {
        name: {cluster for image, cluster in clusters.items() if name in image} for name in NEW
    }
    assert [len(found) for found in by_color.values()] == [1, 1]
    assert by_color["yellow"] != by_color["white"]
    assert main(["predict", str(photographs), str(folders / "novel"), "--out", "p.json"]) == 0
    images = json.loads((tmp_path / "p.json").read_text())["images"]
    # The embedding of predict is that of the discovery, to the bit.
    ours = {Path(image["path"]).name: image["class_id"] - 3 for image in images}
    theirs = {Path(image).name: cluster for image, cluster in clusters.items()}
    pairs = zip(table.id[train], table.joint_heads[0][train], strict=True)
    joint = {Path(image).name: predicted for image, predicted in pairs}
    assert {name: c + 3 for name, c in ours.items()} == joint
    assert theirs.keys() == ours.keys()
    vectors = next((photographs.parent / "vectors").glob("novel-*.parquet"))
    assert main(["predict", str(photographs), str(vectors), "--out", "v.json"]) == 0
    again = json.loads((tmp_path / "v.json").read_text())["images"]
    assert [image["class_id"] for image in again] == [image["class_id"] for image in images]


def test_files_that_are_left_out_and_repeated_images_are_named(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("known", "novel"):
        shutil.copytree(folders / name, tmp_path / name)
    (tmp_path / "novel" / "IMG_1.HEIC").write_bytes(b"")
    (tmp_path / "novel" / "broken.jpg").write_bytes(b"no image")
    shutil.copy(tmp_path / "known" / "red" / "red-0.png", tmp_path / "novel" / "copy.png")
    arguments = ["--known", str(tmp_path / "known"), "--novel", str(tmp_path / "novel")]
    arguments += ["--num-novel", "2", "--image-size", "64", "--runtime", "torch"]
    arguments += ["--method", "whitened_kmeans", "--out", str(tmp_path / "run")]
    assert main(["discover", *arguments]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "1 file is no image by the suffix" in said
    assert "IMG_1.HEIC" in said
    assert "1 images cannot be read" in said
    assert "novel/broken.jpg" in said
    assert "1 images have the same content as another one: novel/copy.png" in said
    assert main(["check-data", *arguments[:4], "--skip-unreadable"]) == 0
    said = "".join(capsys.readouterr())
    assert "novel/copy.png = known/red/red-0.png" in said
    assert "IMG_1.HEIC" in said


def test_the_exported_program_holds_backbone_and_heads(
    photographs: Path, folders: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.pt2"
    assert main(["export", str(photographs), "--format", "torch", "--out", str(out)]) == 0
    program = torch.export.load(out).module()
    files = sorted((folders / "novel").glob("*.png"))
    side = json.loads((tmp_path / "model.pt2.json").read_text())["input"]["shape"][2]
    images = np.stack([fit_square(np.asarray(Image.open(file)), side) for file in files])
    logits, probabilities, _ = program(torch.from_numpy(images))
    table = load_predictions(photographs / "predictions.parquet")
    pairs = zip(table.id, table.joint_heads[0], strict=True)
    joint = {Path(image).name: predicted for image, predicted in pairs}
    assert logits.argmax(-1).tolist() == [joint[file.name] for file in files]
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(len(files)))


def test_a_review_of_photographs_names_the_classes(photographs: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["review", str(photographs), "--out", str(page)]) == 0
    assert page.read_text().count("data:image/") >= 16
    assert f'"root":"{(photographs.parents[1] / "novel").as_uri()}/"' in page.read_text()
    decisions = tmp_path / "decisions.json"
    info = RunFolder(photographs).read_info()
    decisions.write_text(
        json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "model_sha256": info.model_sha256,
                "classes": [
                    {"id": 3, "action": "accept", "name": "first"},
                    {"id": 4, "action": "accept", "name": "second"},
                ],
                "images": [],
            }
        )
    )
    out = tmp_path / "named"
    assert main(["apply-review", str(photographs), str(decisions), "--out", str(out)]) == 0
    named = RunFolder(out).read_info()
    assert [entry.name for entry in named.classes[3:]] == ["first", "second"]
    before, after = (load_predictions(p / "predictions.parquet") for p in (photographs, out))
    rows = before.of("train")
    assert (before.novel_heads[0][rows] == after.novel_heads[0][rows]).all()


def test_labels_for_other_tools_hold_the_discovered_classes(
    photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tasks.json"
    arguments = [str(photographs), "--format", "labelstudio", "--out", str(out)]
    assert main(["export", *arguments, "--root", str(photographs.parents[1])]) == 0
    tasks = json.loads(out.read_text())
    assert len(tasks) == 16, "no image is lost to a known class"
    named = {
        (
            Path(task["data"]["image"]).name.split("-")[0],
            task["predictions"][0]["result"][0]["value"]["choices"][0],
        )
        for task in tasks
    }
    assert len(named) == 2


def test_photographs_extend_a_run_without_old_images(photographs: Path, folders: Path) -> None:
    out = folders / "runs" / "second"
    arguments = ["--from", str(photographs), "--novel", str(folders / "known")]
    # These images are of the known classes, so the step has to be forced.
    arguments += ["--set", "discover.precheck=false"]
    assert main(["discover", *arguments, "--num-novel", "3", "--out", str(out)]) == 0
    assert len(RunFolder(out).read_info().classes) == 8


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--novel", "{novel}"], "--known is not given"),
        (["--known", "{known}", "--novel", "{novel}"], "the number of novel classes is not given"),
        (["--known", "{known}", "--novel", "{novel}", "--pretrain"], "add --train-backbone"),
        (
            ["--from", "{run}", "--novel", "{novel}", "--num-novel", "2", "--backbone", "lite1"],
            "--backbone is lite1",
        ),
        (["--known", "{known}", "--novel", "{novel}", "--out", "{run}"], "a finished run"),
        (["--known", "{known}x", "--novel", "{novel}", "--num-novel", "2"], "x' does not exist"),
        (["--known", "{known}", "--novel", "{known}", "--num-novel", "2"], "contains the other"),
    ],
)
def test_refusals_come_before_any_work(
    arguments: list[str],
    wanted: str,
    photographs: Path,
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"known": folders / "known", "novel": folders / "novel", "run": photographs}
    assert main(["discover", *(text.format(**places) for text in arguments)]) == 2
    said = capsys.readouterr().err.strip()
    assert wanted in said
    assert said.count("\n") == 0
    assert not (tmp_path / "runs").exists()
