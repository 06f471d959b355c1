"""Plans on feature vectors: mixed sessions, resume, scores and refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from crkd.commands.main import main
from crkd.config.load import load_config
from crkd.core.errors import InputError
from crkd.data.vectors import numpy_file
from crkd.data.vectors.row_file import RowFile
from crkd.data.vectors.selected_rows import write_rows
from crkd.data.vectors.table import read_features
from crkd.runs.folder import RunFolder
from crkd.stages.plan_folder import PlanFolder
from crkd.stages.vectors.learners import NearestMeans
from crkd.stages.vectors.plan import run_vector_plan
from crkd.stages.vectors.run import discover_vectors
from tests.support.vector_clouds import save

CLASSES, EACH, WIDTH = 8, 40, 10
FLAGS = ("--plan", "4-2-2", "--session", "30-6", "--set", "data.labeled_fraction=0.6")
FAST = ("--set", "vectors.method=whitened_kmeans", "--set", "class_order_seed=3")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Training and test vectors of eight clouds far apart, with names in no order."""
    folder = tmp_path_factory.mktemp("plan")
    centers = 4 * np.random.default_rng(0).standard_normal((CLASSES, WIDTH))
    made = []
    for number, part in enumerate(("train", "test")):
        draw = np.random.default_rng(number + 1)
        labels = np.arange(CLASSES).repeat(EACH)
        rows = (centers[labels] + draw.standard_normal((len(labels), WIDTH))).astype(np.float32)
        names = np.array([f"class {(7 * c) % 8}" for c in labels])
        np.savez(folder / f"{part}.npz", features=rows, label=names)
        made.append(str(folder / f"{part}.npz"))
    return made


@pytest.fixture(scope="module")
def plan(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plans") / "ours"
    command = ["increments", "--features", *files, *FLAGS, *FAST, "--out", str(out)]
    assert main(command) == 0
    return out


def test_clouds_far_apart_are_found_in_mixed_sessions(plan: Path) -> None:
    metrics = json.loads((plan / "metrics.json").read_text())
    assert metrics["session"] == {"new": 30, "old": 6}
    assert [step["stage"] for step in metrics["steps"]] == ["known", "discover", "discover"]
    for step in metrics["steps"]:
        assert step["acc"]["all"] > 0.9
        assert step["hungarian"]["all"] > 0.9
    assert metrics["max_forgetting"] < 0.1
    assert metrics["mean_discovery"] > 0.9
    assert (plan / "steps.png").is_file()


def test_resume_keeps_finished_sessions_and_gives_the_same(
    plan: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((plan / "metrics.json").read_text())
    models = [(plan / f"step-{n}" / "model.safetensors").stat().st_mtime_ns for n in (1, 2)]
    command = ["increments", "--features", *files, *FLAGS, *FAST, "--out", str(plan)]
    assert main(command) == 2
    assert "holds files already; add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    again = json.loads((plan / "metrics.json").read_text())
    assert again == before
    after = [(plan / f"step-{n}" / "model.safetensors").stat().st_mtime_ns for n in (1, 2)]
    assert after == models
    shown = capsys.readouterr().out
    assert "joint Hungarian" in shown
    assert "M_f" in shown


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (("--seed", "1"), "seed (0 then, 1 now)"),
        (("--plan", "4-4"), "plan ([4, 2, 2] then, [4, 4] now)"),
        (("--method", "kmeans"), "method ('remember' then, 'kmeans' now)"),
        (("--session", "30-5"), "session.old (6 then, 5 now)"),
        (("--set", "class_order_seed=4"), "class_order_seed (3 then, 4 now)"),
    ],
)
def test_another_plan_does_not_resume_and_changes_nothing(
    flags: tuple[str, str],
    difference: str,
    plan: Path,
    files: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stamps() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in plan.rglob("*")}

    before = stamps()
    command = ["increments", "--features", *files, *FLAGS, *FAST, *flags, "--out", str(plan)]
    assert main([*command, "--resume"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"differs in {difference}; name another folder with --out, or give the old" in said
    assert stamps() == before


def test_a_finished_session_of_another_configuration_is_not_kept(
    plan: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as one that an earlier version kept."""
    shutil.copytree(plan, tmp_path / "plan")
    run = RunFolder(tmp_path / "plan" / "step-2")
    run.write_config(dataclasses.replace(run.read_config(), seed=1))
    command = ["increments", "--features", *files, *FLAGS, *FAST, "--resume"]
    assert main([*command, "--out", str(tmp_path / "plan")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "step-2 was made with another configuration: seed (1 then, 0 now)" in said


def discovered(folder: Path, known: Path, novel: Path, parent: Path | None = None) -> RunFolder:
    """One session, as the plan runs it."""
    config = load_config(
        None,
        [
            "vectors.method=whitened_kmeans",
            "discover.mixed=true",
            "discover.num_novel=2",
            "discover.precheck=false",
            "data.validation_fraction=0",
        ],
        {
            "dataset": "features",
            "data": {"features": [str(novel)] if parent else [str(known), str(novel)]},
        },
    )
    return discover_vectors(config, folder, parent)


def test_scrambled_hidden_labels_change_no_model(plan: Path, tmp_path: Path) -> None:
    """Names of known and of new classes are reversed among the vectors of each session."""
    base, parent = plan / "vectors" / "session-0.npz", None
    for number in (1, 2):
        held = read_features(plan / "vectors" / f"session-{number}.npz")
        assert held.labels is not None
        file = tmp_path / f"session-{number}.npz"
        names = np.array(held.labels[::-1])
        np.savez(file, features=held.features, id=np.array(held.ids), label=names)
        run = discovered(tmp_path / f"step-{number}", base, file, parent)
        ours = RunFolder(plan / f"step-{number}").read_info().model_sha256
        assert run.read_info().model_sha256 == ours
        parent = run.path


def test_the_baseline_keeps_old_means(
    plan: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["increments", "--features", *files, *FLAGS, "--out", str(tmp_path / "plan")]
    assert main([*command, "--method", "kmeans"]) == 0
    metrics = json.loads((tmp_path / "plan" / "metrics.json").read_text())
    assert metrics["method"] == "kmeans"
    assert metrics["steps"][-1]["hungarian"]["all"] > 0.7
    capsys.readouterr()
    assert main(["compare", str(plan), str(tmp_path / "plan")]) == 0
    shown = capsys.readouterr().out
    assert "remember" in shown
    assert "M_f" in shown
    train = np.eye(4, dtype=np.float32).repeat(5, axis=0)
    means = NearestMeans(train, seed=0)
    means.start(np.arange(10), np.arange(2).repeat(5))
    before = means._means.copy()
    means.extend(np.arange(20), 2)
    np.testing.assert_array_equal(means._means[:2], before)
    assert means.predict(train[::5])[0][:2].tolist() == [0, 1]


def test_refusals(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*flags: str) -> str:
        command = ["increments", "--features", *files, "--out", str(tmp_path / "no"), *flags]
        assert main(command) == 2
        assert not (tmp_path / "no").exists()
        return capsys.readouterr().err

    assert "takes 9 classes, but" in refused("--plan", "5-4")
    assert "--plan begins with 1 class, and a discovery" in refused("--plan", "1-7")
    assert "--method 'frost' is unknown" in refused("--plan", "4-4", "--method", "frost")
    assert "a base class has 0 samples without a label" in refused(
        "--plan", "4-4", "--session", "5-5"
    )
    assert "such as 400-25" in refused("--plan", "4-4", "--session", "400")
    assert "--split mine.yaml does not apply to a plan on vectors" in refused(
        "--plan", "4-4", "--split", "mine.yaml"
    )


@pytest.mark.parametrize("method", ["remember", "kmeans"])
def test_vectors_in_a_file_are_never_read_as_a_whole(
    method: str, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["data.labeled_fraction=0.6", "vectors.method=whitened_kmeans"]
    config = load_config(None, settings, {"dataset": "features", "data": {"features": files}})

    def steps(name: str) -> Any:
        return run_vector_plan(config, (4, 4), tmp_path / name, method=method)["steps"]

    in_memory = steps("memory")
    monkeypatch.setattr(numpy_file, "IN_MEMORY", 256)
    monkeypatch.setattr(RowFile, "__array__", lambda *_, **__: pytest.fail("all rows were read"))
    assert isinstance(read_features(files[0]).features, RowFile)
    assert steps("file") == in_memory


def test_an_interruption_between_two_sessions_is_continued_as_its_message_says(
    plan: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "ours"
    command = ["increments", "--features", *files, *FLAGS, *FAST, "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlanFolder, "record", interrupted)
        assert main(command) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "crkd increments: stopped between two stages; the state is saved, resume it with the same "
        f"command and --out {out} --resume"
    )
    assert main([*command, "--resume"]) == 0
    found, straight = (json.loads((p / "metrics.json").read_text()) for p in (out, plan))
    assert found["steps"] == straight["steps"]


def test_rows_of_a_file_keep_labels_and_ids(files: list[str], tmp_path: Path) -> None:
    whole = read_features(files[0])
    rows = np.array([3, 100, 7])
    again = read_features(write_rows(whole, rows, tmp_path, "some"))
    np.testing.assert_array_equal(again.features, whole.features[rows])
    assert whole.labels is not None
    assert again.labels == [whole.labels[n] for n in rows]
    assert list(again.ids) == [whole.ids[n] for n in rows]
    with pytest.raises(InputError, match="cannot be written"):
        write_rows(whole, rows, tmp_path / "missing", "some")


@pytest.mark.parametrize(("suffix", "writer"), [("parquet", "ParquetWriter"), ("npz", "savez")])
def test_interrupted_rows_leave_nothing(
    suffix: str, writer: str, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_features(files[0])
    if suffix == "parquet":
        save(tmp_path / "whole.parquet", np.asarray(whole.features), None)
        whole = read_features(str(tmp_path / "whole.parquet"))

    def interrupted(*arguments: object, **options: object) -> None:
        for file in arguments:
            if isinstance(file, Path):
                file.write_bytes(b"half of the rows")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq if suffix == "parquet" else np, writer, interrupted)
    (tmp_path / "rows").mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_rows(whole, np.array([3, 1]), tmp_path / "rows", "some")
    assert not list((tmp_path / "rows").iterdir())
