from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.evaluation.calibration import Calibration
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.predictions_file import load_predictions, save_predictions
from crkd.inference.example import RUN as EXAMPLE
from crkd.inference.example import write_images
from crkd.inference.image_files import TolerantSource, find_images
from crkd.inference.predict import predict
from crkd.inference.rows import HeadAgreement, class_labels
from crkd.inference.table import FORMATS, PredictedImage, read
from crkd.runs.calibration import write_calibration
from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.stages.forward import Outputs
from tests.support.untrained_runs import save_noise, untrained_run

# The package gives the function under this name.
forwarding = importlib.import_module("crkd.stages.forward")

CPU = torch.device("cpu")


def rows_of(run: RunFolder, *images: Path, **options: float) -> list[PredictedImage]:
    out = run.path / "rows.json"
    predict(run.path, images, out, device=CPU, **options)
    return read(out)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return untrained_run(tmp_path / "run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        save_noise(tmp_path / "images" / f"{number % 3}" / f"{number}.png", number)
    return tmp_path / "images"


@pytest.fixture(scope="module")
def discovered(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Path]:
    """A run that discovery made of own images, and its unlabeled images."""
    place = tmp_path_factory.mktemp("own images")
    for number in range(16):
        save_noise(place / "known" / "ab"[number % 2] / f"{number}.png", number)
    for number in range(24):
        save_noise(place / "new photos" / f"image {number}.png", 100 + number)
    settings = {
        "model.backbone": "resnet8",
        "model.hidden": 8,
        "model.projection": 4,
        "model.num_heads": 3,
        "pretrain.epochs": 1,
        "pretrain.batch_size": 8,
        "discover.epochs": 1,
        "discover.batch_size": 16,
        "evaluation.kmeans_restarts": 1,
        "data.stored_share": 1.25,
    }
    flags = [f"--set={key}={value}" for key, value in settings.items()]
    known, novel, out = place / "known", place / "new photos", place / "run"
    train = ["--train-backbone", "--pretrain"]
    where = ["--known", str(known), "--novel", str(novel), "--image-size", "16", "--out", str(out)]
    assert run_verb("discover", [*where, "--num-novel", "3", *train, *flags]) == 0
    return RunFolder.open(out), novel


def test_it_says_what_the_run_said_of_the_same_images(
    discovered: tuple[RunFolder, Path], tmp_path: Path
) -> None:
    run, novel = discovered
    table = load_predictions(run.path / "predictions.parquet")
    train, head = table.of("train"), table.chosen_head
    for number, suffix in enumerate(FORMATS):
        out = tmp_path / f"rows{suffix}"
        predict(run.path, [novel], out, device=CPU, batch_size=5 + number)
        rows = read(out)
        ids = [f"novel/{Path(row.path).relative_to(novel).as_posix()}" for row in rows]
        assert ids == list(table.id[train])
        assert [row.class_id for row in rows] == table.joint_heads[head][train].tolist()
        confidence = [row.confidence for row in rows]
        np.testing.assert_allclose(confidence, table.confidence[train], atol=2e-6)


def test_heads_are_matched_on_training_images_and_their_agreement_counted(run: RunFolder) -> None:
    # Head 0 calls 2, 0, 1 what head 1, the chosen one, calls 0, 1, 2; one image is an accident.
    second = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    first = np.array([2, 2, 2, 0, 0, 0, 1, 1, 1, 0])
    # Forty test images that would turn the names round have no say in them.
    test = np.zeros(40, int)
    both = np.stack([np.append(first, test), np.append(second, test)])
    save_predictions(
        Predictions(
            id=[str(n) for n in range(50)],
            part=["train"] * 10 + ["test"] * 40,
            label=np.full(50, -1),
            known_head=np.zeros(50, int),
            novel_heads=both,
            joint_heads=both + 2,
            confidence=np.ones(50, np.float32),
            class_names=["cat", "dog"],
            num_known=2,
            num_novel=3,
            chosen_head=1,
        ),
        run.path / "predictions.parquet",
    )
    found = HeadAgreement.of(open_run(run.path, CPU))
    assert found is not None
    assert found.maps.tolist() == [[1, 2, 0], [0, 1, 2]]
    known = np.zeros((3, 2), np.float32)
    known[2, 1] = 9.0  # both heads call the last image known
    novel = np.eye(3, dtype=np.float32)[[[2, 2, 0], [0, 1, 0]]] * 5
    outputs = Outputs(np.zeros((3, 1), np.float32), known, novel)
    assert found.shares(outputs).tolist() == [1.0, 0.0, 1.0]


def test_agreement_stands_in_rows_of_novel_classes_alone(
    discovered: tuple[RunFolder, Path], run: RunFolder, folder: Path
) -> None:
    rows = rows_of(discovered[0], discovered[1])
    assert all(row.head_agreement is None for row in rows if row.kind == "known")
    assert all(row.head_agreement in (0, 0.5, 1) for row in rows if row.kind == "novel")
    assert all(row.head_agreement is None for row in rows_of(run, folder)), "no table to match on"


def test_a_row_holds_together(run: RunFolder, folder: Path) -> None:
    rows = rows_of(run, folder)
    names = ["cat", "dog", "novel-0", "novel-1", "novel-2"]
    for row in rows:
        assert row.class_name == names[row.class_id] == next(iter(row.top))
        assert row.kind == ("known" if row.class_id < 2 else "novel")
        assert row.top[row.class_name] == row.confidence == max(row.top.values())
        assert sum(row.top.values()) == pytest.approx(1.0, abs=5e-6)
        assert list(row.top.values()) == sorted(row.top.values(), reverse=True)
        assert set(row.nearest_known) == {"cat", "dog"}
        # Among known classes alone the ratio stays what it is among all.
        ratio = row.nearest_known["cat"] / row.nearest_known["dog"]
        assert ratio == pytest.approx(row.top["cat"] / row.top["dog"], rel=1e-3)
        assert not row.calibrated


@pytest.mark.parametrize(("novel", "calibrated"), [(("novel-0", "novel-1"), False), ((), True)])
def test_the_temperature_of_the_run_is_used_and_calibrates_known_classes_alone(
    tmp_path: Path, folder: Path, novel: tuple[str, ...], calibrated: bool
) -> None:
    run = untrained_run(tmp_path / "run", novel=novel)
    before = rows_of(run, folder)
    write_calibration(run, Calibration(0.5, 90, 1.0, 0.9, 0.2, 0.1))
    after = rows_of(run, folder)
    for old, new in zip(before, after, strict=True):
        squares = {name: share**2 for name, share in old.top.items()}
        expected = {name: share / sum(squares.values()) for name, share in squares.items()}
        assert new.top == pytest.approx(expected, abs=1e-5)
        assert new.class_id == old.class_id
        assert not old.calibrated
        assert new.calibrated == (new.kind == "known") == calibrated


@pytest.mark.parametrize("unsure", [0.0, 0.3, 1.0])
def test_unsure_is_below_the_threshold(run: RunFolder, folder: Path, unsure: float) -> None:
    rows = rows_of(run, folder, unsure=unsure)
    assert [row.unsure for row in rows] == [row.confidence < unsure for row in rows]
    assert json.loads((run.path / "rows.json").read_text())["unsure_below"] == unsure


def test_a_stage1_run_knows_no_novel_class(tmp_path: Path, folder: Path) -> None:
    run = untrained_run(tmp_path / "stage1", novel=())
    rows = rows_of(run, folder)
    assert {row.kind for row in rows} == {"known"}
    assert rows[0].top == rows[0].nearest_known


def test_names_given_in_a_review_are_used(run: RunFolder, folder: Path) -> None:
    info = run.read_info()
    for number, name in ((2, "<b>\U0001f408</b>"), (3, "=cat")):
        info.classes[number] = dataclasses.replace(info.classes[number], name=name)
    run.write_info(info)
    assert {"<b>\U0001f408</b>", "=cat"} <= set(rows_of(run, folder)[0].top)


def test_equal_names_are_distinguished() -> None:
    names = ["cat", "cat", "cat (1)", "cat"]
    labels = class_labels([ClassInfo(i, name, "known") for i, name in enumerate(names)])
    assert labels[0] == "cat"
    assert len(set(labels)) == 4


def test_images_come_in_the_order_of_the_arguments_and_once(folder: Path) -> None:
    last, first = folder / "2" / "5.png", folder / "0"
    found = find_images([last, first, folder])
    assert found[0] == last
    assert [path.parent.name for path in found[1:5]] == ["0"] * 4
    assert len(found) == len(set(found)) == 12


def test_a_few_batches_at_most_are_read_ahead(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        save_noise(tmp_path / "many" / f"{number}.png", number)
    opened, seen, honest_read, honest_view = [], [], TolerantSource.read, forwarding.make_view

    def read_one(self, index):  # type: ignore[no-untyped-def]
        opened.append(index)
        return honest_read(self, index)

    def view_batch(pixels, *arguments, **options):  # type: ignore[no-untyped-def]
        seen.append((len(pixels), len(opened)))
        return honest_view(pixels, *arguments, **options)

    monkeypatch.setattr(TolerantSource, "read", read_one)
    monkeypatch.setattr(forwarding, "make_view", view_batch)
    # One thread decodes and one computes.
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    predict(run.path, [tmp_path / "many"], tmp_path / "rows.csv", device=CPU, batch_size=2)
    assert [size for size, _ in seen] == [2] * 30
    # Four batches wait for the network, two are on their way to the device, four are decoded.
    assert all(ahead <= 2 * (number + 10) for number, (_, ahead) in enumerate(seen, start=1))
    assert len(read(tmp_path / "rows.csv")) == len(opened) == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "nowhere"], "IMAGES 'nowhere' is neither a file nor a folder"),
        (["{run}", "empty"], "IMAGES 'empty' hold no image"),
        (["{run}", "text.png"], "none of the 1 IMAGES can be read: 'text.png' (not a JPEG"),
        (["nowhere", "empty"], "nowhere is not a run folder"),
        (["nowhere", "good.png"], "nowhere is not a run folder"),
        (["{run}", "good.png", "--out", "x.xlsx"], "--out 'x.xlsx' names no format"),
        (["{run}", "good.png", "--unsure", "1.5"], "--unsure 1.5 is not in [0, 1]"),
        (["{run}", "good.png", "--unsure", "nan"], "--unsure nan"),
        (["{run}", "good.png", "--batch-size", "0"], "--batch-size 0 is below 1"),
        (["{run}", "good.png", "--device", "tpu"], "--device 'tpu' is unknown"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    run: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("hello")
    save_noise(tmp_path / "good.png", 0)
    before = set(tmp_path.iterdir())
    assert run_verb("predict", [a.format(run=run.path) for a in arguments]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert set(tmp_path.iterdir()) == before


def test_a_bad_file_is_skipped_counted_and_listed(
    run: RunFolder, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    bad = folder / "0" / "=bad.png"
    bad.write_bytes(b"not an image")
    out = tmp_path / "out" / "rows.csv"
    command = [str(run.path), str(folder), "--out", str(out), "--batch-size", "4"]
    assert run_verb("predict", command) == 0
    printed = capsys.readouterr().out
    assert "1 file skipped" in printed
    assert "12 images in" in printed
    assert "images/s" in printed
    assert len(read(out)) == 12
    assert not any(row.path.endswith("bad.png") for row in read(out))
    listed = (tmp_path / "out" / "rows.skipped.csv").read_text()
    assert f'{bad},"not a JPEG' in listed
    bad.unlink()
    assert run_verb("predict", command) == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["rows.csv"], "no stale list"


def test_a_run_without_a_network_is_refused(run: RunFolder, folder: Path, tmp_path: Path) -> None:
    info = run.read_info()
    info.architecture = None
    run.write_info(info)
    with pytest.raises(InputError, match="trained no network"):
        predict(run.path, [folder], tmp_path / "rows.csv", device=CPU)


def test_what_fits_nowhere_is_flagged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    digits = write_images(tmp_path / "digits")
    for number in range(20):
        save_noise(tmp_path / "noise" / f"{number}.png", number, side=16)
    out = tmp_path / "rows.parquet"
    places = [str(digits), str(tmp_path / "noise")]
    assert run_verb("predict", [str(EXAMPLE), *places, "--out", str(out)]) == 0
    rows = read(out)
    strays = {
        name: [r.outlier for r in rows if name in Path(r.path).parts]
        for name in ("digits", "noise")
    }
    assert sum(strays["digits"]) <= 0.02 * len(strays["digits"])
    assert all(strays["noise"])
    count = sum(row.outlier for row in rows)
    assert f"{count} images fit none of the classes" in capsys.readouterr().out


def test_without_statistics_nothing_is_said_of_outliers(
    run: RunFolder, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "rows.csv"
    assert run_verb("predict", [str(run.path), str(folder), "--out", str(out)]) == 0
    assert {row.outlier for row in read(out)} == {None}
    assert "no outlier detection" in capsys.readouterr().out
