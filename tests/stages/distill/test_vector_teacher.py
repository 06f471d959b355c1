"""A discovery on vectors as the teacher of a network that is trained on its images."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from crkd.commands.main import main
from crkd.config.check import build, plain
from crkd.config.load import merge, parse_setting
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.losses.term import TERMS, terms_for
from crkd.review.decisions import FORMAT, VERSION
from crkd.review.run_outputs import gather
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.stages.distill.run import StudentTraining, distill
from crkd.stages.distill.vector_teacher import images_of, with_images_of
from crkd.stages.vectors.run import data_of_run
from crkd.training.interruption import Interrupted
from tests.support.color_folders import (
    EACH,
    KNOWN,
    NEW,
    color_folders,
    discover_colors,
    save_colors,
)
from tests.support.small_runs import interrupt_at, same, with_term

pytestmark = pytest.mark.usefixtures("few_steps")

CPU = torch.device("cpu")
MORE = {"black": (20, 20, 20), "pink": (240, 60, 200)}
SMALL = (
    "distill.student=resnet8",
    "distill.epochs=12",
    "distill.batch_size=16",
    "distill.views=[{recipe: plain}]",
    "loop.log_every=2",
    "loop.loggers=[]",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("colors")
    color_folders(place, nested=True)
    return place


@pytest.fixture(scope="module")
def found(root: Path) -> RunFolder:
    """A discovery of two colors; the folders of the novel images give hidden labels."""
    return RunFolder(discover_colors(root))


@pytest.fixture(scope="module")
def student(found: RunFolder, root: Path) -> RunFolder:
    return distill(config_of(found), root / "students" / "first", found.path)


def config_of(run: RunFolder, *settings: str) -> Config:
    values = plain(run.read_config())
    for setting in (*SMALL, *settings):
        values = merge(values, parse_setting(setting))
    return build(Config, values)


def weights(run: RunFolder) -> dict[str, Tensor]:
    return load_file(run.path / "model.safetensors")


def student_of(run: RunFolder, *settings: str) -> StudentTraining:
    config = with_images_of(config_of(run, *settings), run)
    data = images_of(config, run.read_info(), CPU)
    return StudentTraining(config, data, open_run(run.path, CPU), CPU, generation=1)


def test_the_student_predicts_as_its_teacher(student: RunFolder, found: RunFolder) -> None:
    info, before = student.read_info(), found.read_info()
    assert (info.kind, info.status, info.embedding) == ("distilled", "complete", None)
    assert info.classes == before.classes
    assert info.preprocessing["image_size"] == 32
    assert info.parent is not None
    assert info.parent["model_sha256"] == before.model_sha256
    ours, theirs = (load_predictions(r.path / "predictions.parquet") for r in (student, found))
    assert ours.id.tolist() == theirs.id.tolist()
    same_class = (ours.joint_heads[0] == theirs.joint_heads[0]).mean()
    assert same_class > 0.8, "chance is 0.2"
    of_teacher = ours.baselines["teacher"][ours.of("train")]
    assert (of_teacher == theirs.novel_heads[0][theirs.of("train")]).all()
    (note,) = (text for text in info.notes if text.startswith("student and teacher"))
    train = (ours.joint_heads[0] == theirs.joint_heads[0])[ours.of("train")].mean()
    assert f"{100 * train:.1f} % of {2 * EACH} unlabeled images" in note
    (sizes,) = (text for text in info.notes if text.startswith("teacher "))
    assert "heads on the vectors of lite0" in sizes
    assert "known test images" in sizes


def test_it_takes_the_teachers_outputs_of_the_stored_vectors(found: RunFolder) -> None:
    made = student_of(found)
    vectors = data_of_run(found)
    by_id: dict[str, Tensor] = {}
    for part in (vectors.subsets.known_train, vectors.subsets.unlabeled):
        out = open_run(found.path, CPU).network([vectors.of(part)])
        joint = torch.cat([out.known_logits[0], out.novel_logits[0, 0]], dim=-1)  # type: ignore[index]
        by_id |= dict(zip(part.ids, joint.softmax(-1), strict=True))
    subsets = made.data.subsets
    names = [*subsets.known_train.ids, *subsets.unlabeled.ids]
    for batch in made.loader.batches(0, 3):
        given = made.task.teacher(batch, 0).known_logits
        assert given.dtype == torch.float32
        wanted = torch.stack([by_id[names[n]] for n in batch.sample_id.tolist()])
        torch.testing.assert_close(given[0].exp(), wanted.float())


@pytest.mark.parametrize("name", terms_for("distill"))
def test_a_term_on_outputs_trains_and_every_other_one_is_refused(
    name: str, found: RunFolder, tmp_path: Path
) -> None:
    term = TERMS.get(name)
    config = config_of(found, f"distill.method=[{{name: {name}}}]", "distill.epochs=1")
    lacking = term.needs & {"feature_maps", "teacher_classifier", "stored_views"}
    out = tmp_path / "out"
    if lacking:
        wanted = f"{name!r} needs {', '.join(sorted(lacking))}, which a teacher on feature vectors"
        with pytest.raises(InputError, match=wanted):
            distill(config, out, found.path)
        assert not out.exists()
        return
    made = student_of(found, *with_term("distill", name))
    loss, _ = made.task.losses(next(made.loader.batches(0, 1)))
    assert loss.isfinite()


def test_scrambled_hidden_labels_leave_the_student_as_it_is(
    found: RunFolder, student: RunFolder, tmp_path: Path
) -> None:
    copy = RunFolder(shutil.copytree(found.path, tmp_path / "scrambled"))
    config = found.read_config()
    known, novel = config.data.features
    table = pq.read_table(novel)
    labels = np.random.default_rng(3).permutation(table["label"].to_pylist()).tolist()
    assert labels != table["label"].to_pylist()
    place = table.schema.get_field_index("label")
    pq.write_table(table.set_column(place, "label", [labels]), tmp_path / "novel.parquet")
    files = (known, str(tmp_path / "novel.parquet"))
    data = dataclasses.replace(config.data, features=files)
    copy.write_config(dataclasses.replace(config, data=data))
    again = distill(config_of(copy), tmp_path / "student", copy.path)
    assert same(weights(again), weights(student))
    metrics = [run.read_metrics()["task_aware"]["train"]["novel"] for run in (again, student)]
    assert metrics[0] != metrics[1], "the evaluator alone must have seen the scrambled labels"


def test_a_resumed_student_is_bit_identical(
    found: RunFolder, student: RunFolder, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(5, patch)
        with pytest.raises(Interrupted, match="--resume"):
            distill(config_of(found), tmp_path / "run", found.path)
    resumed = distill(config_of(found), tmp_path / "run", found.path, resume=True)
    assert same(weights(resumed), weights(student))


def test_changed_images_end_a_resume(found: RunFolder, root: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(0, patch)
        with pytest.raises(Interrupted):
            distill(config_of(found), tmp_path / "run", found.path)
    run = RunFolder(tmp_path / "run")
    info = run.read_info()
    run.write_info(dataclasses.replace(info, split={**info.split, "images": "of other images"}))
    with pytest.raises(InputError, match="the unlabeled images have changed"):
        distill(config_of(found), tmp_path / "run", found.path, resume=True)


def test_a_second_student_has_the_first_one_as_its_teacher(
    found: RunFolder, tmp_path: Path
) -> None:
    config = config_of(found, "distill.epochs=1", "distill.generations=2")
    last = distill(config, tmp_path / "run", found.path)
    first = RunFolder(tmp_path / "run-generation1").read_info()
    assert (last.read_info().parent or {})["model_sha256"] == first.model_sha256
    again = distill(config_of(last, "distill.generations=1"), tmp_path / "again", last.path)
    assert again.read_info().split == first.split


def test_the_student_predicts_image_files_as_in_its_run(
    student: RunFolder, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.json"
    assert main(["predict", str(student.path), str(root / "novel"), "--out", str(out)]) == 0
    images = json.loads(out.read_text())["images"]
    table = load_predictions(student.path / "predictions.parquet")
    pairs = zip(table.id, table.joint_heads[0].tolist(), strict=True)
    joint = {Path(name).name: predicted for name, predicted in pairs}
    assert len(images) == 2 * EACH
    assert all(image["class_id"] == joint[Path(image["path"]).name] for image in images)


def decisions_of(run: RunFolder, actions: Sequence[dict[str, object]], file: Path) -> Path:
    model = run.read_info().model_sha256
    shown = gather(run.path, torch.device("cpu")).shown_sha256
    content = {"format": FORMAT, "version": VERSION, "model_sha256": model, "images": []}
    file.write_text(json.dumps({**content, "shown_sha256": shown, "classes": actions}))
    return file


def test_other_verbs_take_the_student(
    student: RunFolder, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(student.path)
    page, program = tmp_path / "page.html", tmp_path / "model.pt2"
    assert main(["review", run, "--out", str(page)]) == 0
    assert page.read_text().count("data:image/") == 2 * EACH
    assert main(["evaluate", run]) == 0
    assert main(["export", run, "--format", "torch", "--out", str(program)]) == 0
    labels = ["--format", "labelstudio", "--all", "--root", str(root)]
    assert main(["export", run, *labels, "--out", str(tmp_path / "tasks.json")]) == 0
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == 2 * EACH
    names = [{"id": 3 + n, "action": "accept", "name": name} for n, name in enumerate(NEW)]
    file = decisions_of(student, names, tmp_path / "names.json")
    assert main(["apply-review", run, str(file), "--out", str(tmp_path / "named")]) == 0
    named = RunFolder(tmp_path / "named")
    assert [entry.name for entry in named.read_info().classes[3:]] == list(NEW)
    assert same(weights(named), weights(student))
    merged = [names[0], {"id": 4, "action": "merge", "into": 3}]
    file = decisions_of(student, merged, tmp_path / "merged.json")
    capsys.readouterr()
    assert main(["apply-review", run, str(file), "--out", str(tmp_path / "merged")]) == 2
    assert "can only be named; decide so in a review of its teacher" in capsys.readouterr().err


def test_new_images_extend_the_student(student: RunFolder, root: Path, tmp_path: Path) -> None:
    save_colors(MORE, tmp_path / "more", nested=False)
    arguments = ["--from", str(student.path), "--novel", str(tmp_path / "more")]
    few = ["discover.epochs=1", "discover.batch_size=16", "model.hidden=16", "model.num_heads=1"]
    few += ["discover.precheck=false"]
    flags = [word for setting in few for word in ("--set", setting)]
    out = tmp_path / "next"
    assert main(["discover", *arguments, "--num-novel", "2", *flags, "--out", str(out)]) == 0
    info = RunFolder(out).read_info()
    assert (info.dataset, len(info.classes)) == ("folder", 7)


@pytest.fixture(scope="module")
def steps(found: RunFolder, root: Path) -> tuple[RunFolder, RunFolder]:
    """A reviewed discovery, and an incremental step from it."""
    names = [
        {"id": 3 + n, "action": "accept", "name": f"{name} thing"} for n, name in enumerate(NEW)
    ]
    file = decisions_of(found, names, root / "names.json")
    named = root / "runs" / "named"
    assert main(["apply-review", str(found.path), str(file), "--out", str(named)]) == 0
    save_colors(MORE, root / "more", nested=False, seed=2)
    out = root / "runs" / "second"
    arguments = ["--from", str(named), "--novel", str(root / "more"), "--num-novel", "2"]
    assert main(["discover", *arguments, "--out", str(out)]) == 0
    return RunFolder(named), RunFolder(out)


def test_a_student_of_an_incremental_step_learns_from_the_images_of_all_steps(
    steps: tuple[RunFolder, RunFolder], root: Path, tmp_path: Path
) -> None:
    named, second = steps
    made = student_of(second)
    assert len(made.config.data.features) == 3
    held_out = len(made.data.subsets.known_val)
    assert [len(store) for store in made.loader.stores if store is not None] == [
        len(KNOWN) * EACH - held_out,
        2 * len(NEW) * EACH,
    ]
    assert set(made.data.subsets.known_train.labels) == {0, 1, 2}
    assert all("more" in name for name in made.data.subsets.unlabeled.ids)
    run = distill(config_of(second), tmp_path / "student", second.path)
    assert run.read_info().classes == second.read_info().classes
    out = tmp_path / "p.json"
    folders = [str(root / name) for name in ("known", "novel", "more")]
    assert main(["predict", str(run.path), *folders, "--out", str(out)]) == 0
    ours = {image["path"]: image["class_id"] for image in json.loads(out.read_text())["images"]}
    assert main(["predict", str(second.path), *folders, "--out", str(out)]) == 0
    theirs = {image["path"]: image["class_id"] for image in json.loads(out.read_text())["images"]}
    for folder in folders:
        names = [name for name in theirs if name.startswith(f"{folder}/")]
        assert np.mean([ours[name] == theirs[name] for name in names]) > 0.6, folder
    assert main(["review", str(run.path), "--out", str(tmp_path / "page.html")]) == 0
    assert with_images_of(config_of(named), named).data.features == (
        named.read_config().data.features
    )


@pytest.mark.parametrize(("state", "wanted"), [("missing", "missing"), ("other", "another one")])
def test_a_step_without_the_run_before_is_refused(
    state: str, wanted: str, steps: tuple[RunFolder, RunFolder], tmp_path: Path
) -> None:
    copy = RunFolder(shutil.copytree(steps[1].path, tmp_path / "copy"))
    info = copy.read_info()
    before = tmp_path / "before"
    if state == "other":
        shutil.copytree(steps[0].path, before)
    other = {"path": str(before), "model_sha256": "0" * 64}
    copy.write_info(dataclasses.replace(info, parent=other))
    with pytest.raises(InputError, match=rf"extends {before}, which is {wanted}.*restore it"):
        distill(config_of(copy), tmp_path / "out", copy.path)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A discovery on vectors of another program."""
    place = tmp_path_factory.mktemp("foreign")
    rows = np.random.default_rng(0).normal(size=(7, 12))[np.arange(7).repeat(12)] * 5
    rows += np.random.default_rng(1).normal(size=rows.shape)
    np.savez(place / "known.npz", features=rows[:48], label=np.arange(4).repeat(12))
    np.savez(place / "novel.npz", features=rows[48:])
    files = [str(place / f"{name}.npz") for name in ("known", "novel")]
    arguments = ["--features", *files, "--num-novel", "3", "--method", "kmeans"]
    assert main(["discover", *arguments, "--out", str(place / "run")]) == 0
    return place / "run"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--teacher", "{foreign}"], "was made of vectors of unknown origin"),
        (["--teacher", "{found}", "--method", "fitnet"], "which a teacher on feature vectors"),
        (["--teacher", "{found}", "--method", "fkd"], "needs stored_views, which a teacher on"),
        (
            ["--teacher", "{found}", "--set", "distill.stored_epochs=2"],
            "distill.stored_epochs is 2, but the outputs of a teacher on feature vectors are",
        ),
        (["--teacher", "{found}", "--image-size", "0"], "data.image_size"),
        (["--teacher", "{found}", "--student", "resnet9"], "unknown backbone 'resnet9'"),
        (["--teacher", "{found}", "--set", "data.image_size=16"], "belongs to the teacher"),
        (["--teacher", "{student}", "--image-size", "16"], "--image-size 16 is for a teacher on"),
        (["--teacher", "{found}", "--out", "{found}"], "holds a finished run"),
    ],
)
def test_refusals_come_before_any_work(
    arguments: list[str],
    wanted: str,
    found: RunFolder,
    student: RunFolder,
    foreign: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(found.path.parent.iterdir())
    places = {"found": found.path, "student": student.path, "foreign": foreign}
    assert main(["distill", *(text.format(**places) for text in arguments)]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("crkd distill: ")]
    assert wanted in line
    assert sorted(found.path.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        ("changed", r"of 40 embedded images 1 changed \(known/red/red-3.png\); restore them"),
        ("missing", r"of 40 embedded images 1 missing \(known/red/red-3.png\); restore them"),
        ("folder", r"are not in '.*known' any more; restore them"),
    ],
)
def test_images_that_are_not_those_of_the_embedding_are_refused(
    damage: str, wanted: str, root: Path, found: RunFolder, tmp_path: Path
) -> None:
    image = root / "known" / "red" / "red-3.png"
    content = image.read_bytes()
    try:
        if damage == "folder":
            (root / "known").rename(root / "away")
        elif damage == "missing":
            image.unlink()
        else:
            Image.new("RGB", (24, 24)).save(image)
        with pytest.raises(InputError, match=wanted):
            distill(config_of(found), tmp_path / "out", found.path)
        assert not (tmp_path / "out").exists()
    finally:
        if damage == "folder":
            (root / "away").rename(root / "known")
        image.write_bytes(content)
