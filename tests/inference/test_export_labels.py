from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.data.vectors.embedding_file import RootEntry
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.predictions_file import save_predictions
from crkd.inference import export_labels as export_module
from crkd.inference.export_labels import export_labels
from crkd.inference.table import PredictedImage, writing
from crkd.runs.folder import RunFolder
from tests.support.untrained_runs import save_noise, untrained_run

NOVEL = ('<b>\U0001f408</b> & "co"', "=1+1", "crow's")
FILES = ("a b.png", "sub/ü#?&.png", "c.png", "known.png")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with odd class names that found two classes in four image files."""
    folder = tmp_path / "new photos"
    for number, name in enumerate(FILES):
        save_noise(folder / name, number)
    run = untrained_run(
        tmp_path / "run", "dataset=folder", "data.known=x", f"data.novel={folder}", novel=NOVEL
    )
    # The joint prediction calls the fourth image known; its novel class is the third one.
    joint = np.array([2, 3, 2, 0, 4])
    novel = np.array([0, 1, 0, 2, 2])
    save_predictions(
        Predictions(
            id=[*(f"novel/{name}" for name in FILES), "known/cat/1.png"],
            part=["train"] * 4 + ["test"],
            label=np.full(5, -1),
            known_head=np.zeros(5, int),
            novel_heads=np.stack([np.zeros(5, int), novel]),
            joint_heads=np.stack([np.zeros(5, int), joint]),
            confidence=np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32),
            class_names=["cat", "dog"],
            num_known=2,
            num_novel=3,
            chosen_head=1,
        ),
        run.path / "predictions.parquet",
    )
    return run


def label_studio_reads(tasks: Any, config: str) -> list[tuple[str, str, float]]:
    """Read tasks as Label Studio documents them; return path, class and score of each.

    Source: "Import pre-annotated data into Label Studio" and the tags Image and Choices in its
    documentation: a task has ``data`` and ``predictions``; a result names the tags of the
    labeling configuration, has an id of its own, and chooses values that the configuration has.
    """
    tree = ET.fromstring(config)
    assert tree.tag == "View"
    (image,), (choices,) = tree.findall("Image"), tree.findall("Choices")
    assert choices.get("toName") == image.get("name")
    values = [choice.attrib["value"] for choice in choices]
    assert len(set(values)) == len(values)
    ids, read = set(), []
    for task in tasks:
        (prediction,) = task["predictions"]
        (result,) = prediction["result"]
        assert result["type"] == "choices"
        assert result["from_name"] == choices.get("name")
        assert result["to_name"] == image.get("name")
        (value,) = result["value"]["choices"]
        assert value in values
        assert isinstance(prediction["model_version"], str)
        assert 0 <= prediction["score"] <= 1
        ids.add(result["id"])
        field = image.attrib["value"].removeprefix("$")
        read.append((task["data"][field], value, prediction["score"]))
    assert len(ids) == len(read)
    return read


def fiftyone_reads(labels: Any) -> list[tuple[str, str, float]]:
    """Read ``labels.json`` of a FiftyOneImageClassificationDataset as FiftyOne documents it.

    Source: "FiftyOneImageClassificationDataset" under "Importing data into FiftyOne": keys are
    absolute paths, a target is an index into ``classes`` or a dict that holds it as ``label``.
    """
    assert labels.keys() == {"classes", "labels"}
    read = []
    for path, target in labels["labels"].items():
        assert target.keys() <= {"label", "confidence", "attributes"}
        assert Path(path).is_absolute()
        assert Path(path).is_file()
        read.append((path, labels["classes"][target["label"]], target["confidence"]))
    return read


def test_label_studio_sees_the_novel_training_images(run: RunFolder, tmp_path: Path) -> None:
    (tasks, config), count = export_labels(run.path, "labelstudio")
    read = label_studio_reads(json.loads(tasks.read_text()), config.read_text())
    assert count == len(read) == 4, "all but the test image"
    urls = [urlsplit(url) for url, _, _ in read]
    assert {url.path for url in urls} == {"/data/local-files/"}
    # As a server decodes it, the parameter is the file below the root folder.
    found = [Path("/", parse_qs(url.query)["d"][0]) for url in urls]
    assert found == [tmp_path / "new photos" / name for name in FILES]
    assert [name for _, name, _ in read] == [NOVEL[0], NOVEL[1], NOVEL[0], NOVEL[2]]
    assert [score for _, _, score in read] == pytest.approx([0.9, 0.8, 0.7, 0.4])
    assert [task["data"]["disputed"] for task in json.loads(tasks.read_text())] == [
        *[None] * 3,
        "cat",
    ]


def test_prefix_and_root_say_where_the_images_are_served(run: RunFolder, tmp_path: Path) -> None:
    command = ["export", str(run.path), "--format", "labelstudio", "--prefix", "https://x.org/p/"]
    out = tmp_path / "out" / "tasks.json"
    flags = ["--root", str(tmp_path / "new photos"), "--out", str(out), "--all"]
    assert run_verb(command[0], [*command[1:], *flags]) == 0
    tasks = json.loads(out.read_text())
    assert [task["data"]["image"] for task in tasks] == [
        "https://x.org/p/a%20b.png",
        "https://x.org/p/sub/%C3%BC%23%3F%26.png",
        "https://x.org/p/c.png",
        "https://x.org/p/known.png",
    ]
    label_studio_reads(tasks, (tmp_path / "out" / "tasks.xml").read_text())
    with pytest.raises(InputError, match="outside --root"):
        export_labels(run.path, "labelstudio", root=tmp_path / "run")


def test_the_tasks_are_not_written_where_the_configuration_would_be(
    run: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"--out .*tasks.XML' .* let it end in .json"):
        export_labels(run.path, "labelstudio", tmp_path / "tasks.XML")
    assert not (tmp_path / "tasks.XML").exists()


def test_files_of_all_folders_of_the_vectors_are_found(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders "novel" and "known" are the roots of one file of vectors; a tar file has no files."""
    save_noise(tmp_path / "known" / "more.png", 9)
    roots = [
        RootEntry(name, str(tmp_path / folder), 1)
        for name, folder in (("tar", "a.tar"), ("novel", "new photos"), ("known", "known"))
    ]
    monkeypatch.setattr(export_module, "vector_files", lambda run: ("v.parquet",))
    monkeypatch.setattr(export_module, "read_info", lambda path: SimpleNamespace(roots=roots))
    config = dataclasses.replace(run.read_config(), dataset="features")
    monkeypatch.setattr(RunFolder, "read_config", lambda self: config)
    found = export_module._image_files(run, run.read_info())
    assert found == {
        **{f"novel/{name}": tmp_path / "new photos" / name for name in FILES},
        "known/more.png": tmp_path / "known" / "more.png",
    }


@pytest.mark.parametrize("form", ["fiftyone", "atlas", "onnx"])
@pytest.mark.parametrize("flag", ["--prefix", "--root"])
def test_prefix_and_root_are_for_label_studio_alone(
    form: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tmp_path / "absent"), "--format", form, flag, "/"]
    assert run_verb("export", command) == 2
    assert f"{flag} does not apply to --format {form}; leave it out" in capsys.readouterr().err


def test_fiftyone_sees_the_novel_training_images(run: RunFolder, tmp_path: Path) -> None:
    (file,), count = export_labels(run.path, "fiftyone")
    read = fiftyone_reads(json.loads(file.read_text()))
    assert count == 4
    assert [path for path, _, _ in read] == [str(tmp_path / "new photos" / n) for n in FILES]
    assert [name for _, name, _ in read] == [NOVEL[0], NOVEL[1], NOVEL[0], NOVEL[2]]
    labels = json.loads(file.read_text())["labels"]
    assert [entry["attributes"]["disputed"] for entry in labels.values()] == [*[None] * 3, "cat"]


def test_the_run_tells_the_probability_of_a_disputed_class(run: RunFolder) -> None:
    table = "image,class_name,probability,known_class,known_probability\n"
    (run.path / "disputed.csv").write_text(f"{table}novel/known.png,x,0.25,cat,0.6\n")
    (file,), _ = export_labels(run.path, "fiftyone")
    assert [score for _, _, score in fiftyone_reads(json.loads(file.read_text()))][3] == 0.25


def test_mixed_images_have_the_class_of_the_joint_prediction(run: RunFolder) -> None:
    config = run.read_config()
    mixed = dataclasses.replace(config.discover, mixed=True)
    run.write_config(dataclasses.replace(config, discover=mixed))
    (file,), count = export_labels(run.path, "fiftyone")
    assert count == 3
    (file,), count = export_labels(run.path, "fiftyone", known_too=True)
    read = fiftyone_reads(json.loads(file.read_text()))
    assert count == 4
    assert [name for _, name, _ in read] == [NOVEL[0], NOVEL[1], NOVEL[0], "cat"]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_rows_of_predict_are_taken_too(run: RunFolder, tmp_path: Path, suffix: str) -> None:
    image = save_noise(tmp_path / "new photos" / "=later.png", 9)
    share = {NOVEL[2]: 0.75}
    rows = [
        PredictedImage(str(image), "novel", 4, NOVEL[2], 0.75, False, False, 1.0, share, {"dog": 1})
    ]
    file = tmp_path / f"rows{suffix}"
    with writing(file, {}) as write:
        write(rows)
    (made,), count = export_labels(run.path, "fiftyone", predictions=file)
    labels = json.loads(made.read_text())
    assert count == 1
    assert fiftyone_reads(labels) == [(str(image), NOVEL[2], 0.75)]
    assert labels["labels"][str(image)]["attributes"]["nearest_known"] == "dog"


def test_what_cannot_be_exported_says_why(run: RunFolder, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.csv"
    with writing(foreign, {}) as write:
        write([PredictedImage("a.png", "novel", 9, "yak", 0.5, False, False, None, {}, {})])
    with pytest.raises(InputError, match="names the class 'yak'"):
        export_labels(run.path, "fiftyone", predictions=foreign)
    empty = tmp_path / "empty.csv"
    with writing(empty, {}):
        pass
    with pytest.raises(InputError, match="no image of a discovered class"):
        export_labels(run.path, "fiftyone", predictions=empty)
    with pytest.raises(InputError, match="give --predictions FILE"):
        export_labels(untrained_run(tmp_path / "digits").path, "fiftyone")
    (tmp_path / "new photos" / "c.png").unlink()
    with pytest.raises(InputError, match=r"c\.png.*no longer"):
        export_labels(run.path, "fiftyone")
    (tmp_path / "new photos").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="is not here"):
        export_labels(run.path, "fiftyone")
    assert not (run.path / "fiftyone.json").exists()


def test_flags_of_labels_do_not_apply_to_programs(
    run: RunFolder, capsys: pytest.CaptureFixture
) -> None:
    assert run_verb("export", [str(run.path), "--format", "onnx", "--all"]) == 2
    assert "do not apply to --format onnx" in capsys.readouterr().err
