"""The prediction table: round trip, strictness, hostile files."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.atomic_write import is_unfinished
from crkd.core.errors import InputError
from crkd.evaluation import predictions_file
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.predictions_file import load_predictions, save_predictions
from crkd.evaluation.report import evaluate


def table(**changes):
    """Eight images, two known and two true novel classes, three clusters, two heads."""
    fields = {
        "id": ["a.png", "b/ü.png", "c'\"<b>.png", "d", "e", "f", "g", "a.png"],
        "part": ["train"] * 4 + ["test"] * 4,
        "label": np.array([2, 2, 3, -1, 0, 1, 2, 3]),
        "known_head": np.array([0, 1, 0, 1, 0, 1, 0, 1]),
        "novel_heads": np.array([[0, 0, 1, 2, 0, 0, 0, 1], [1, 1, 0, 2, 0, 0, 1, 1]]),
        "joint_heads": np.array([[2, 2, 3, 4, 0, 1, 2, 3], [3, 3, 2, 4, 0, 1, 3, 0]]),
        "confidence": np.linspace(0.2, 1.0, 8, dtype=np.float32),
        "class_names": ["cat", "dog", "novel 0", "novel 1"],
        "num_known": 2,
        "num_novel": 3,
        "chosen_head": 1,
        "baselines": {"kmeans_pixels": np.array([0, 1, 2, 0, -1, -1, 1, 2])},
    }
    return Predictions(**{**fields, **changes})


def supervised_table():
    empty = np.zeros((0, 8), np.int32)
    return table(novel_heads=empty, joint_heads=empty, num_novel=0, chosen_head=None, baselines={})


@pytest.mark.parametrize("make", [table, supervised_table])
def test_round_trip(tmp_path, make):
    before = make()
    save_predictions(before, tmp_path / "predictions.parquet")
    after = load_predictions(tmp_path / "predictions.parquet")
    for field in dataclasses.fields(Predictions):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.name == "baselines":
            assert list(old) == list(new)
            for name in old:
                np.testing.assert_array_equal(old[name], new[name])
        elif isinstance(old, np.ndarray):
            np.testing.assert_array_equal(old, new)
            assert old.dtype == new.dtype
            assert old.shape == new.shape
        else:
            assert old == new
    assert evaluate(after) == evaluate(before)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]


def test_columns_and_metadata_are_the_documented_ones(tmp_path):
    save_predictions(table(), tmp_path / "p.parquet")
    file = pq.ParquetFile(tmp_path / "p.parquet")
    schema = file.schema_arrow
    types = {name: str(schema.field(name).type) for name in schema.names}
    ids = ["label", "known_head", "novel_head_0", "novel_head_1", "joint_head_0", "joint_head_1"]
    assert types == {
        "id": "string",
        "part": "string",
        **dict.fromkeys([*ids, "baseline_kmeans_pixels"], "int32"),
        "confidence": "float",
    }
    assert json.loads(schema.metadata[b"crkd"]) == {
        "schema_version": 1,
        "class_names": ["cat", "dog", "novel 0", "novel 1"],
        "num_known": 2,
        "num_novel": 3,
        "num_heads": 2,
        "chosen_head": 1,
        "baselines": ["kmeans_pixels"],
    }
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"label": np.full(8, 4)}, "label"),
        ({"label": np.full(8, -2)}, "label"),
        ({"label": np.zeros(7, int)}, "label"),
        ({"label": np.zeros(8)}, "float64"),
        ({"known_head": np.full(8, 2)}, "known_head"),
        ({"known_head": np.full(8, -1)}, "known_head"),
        ({"novel_heads": np.full((2, 8), 3)}, "novel_heads"),
        ({"joint_heads": np.full((2, 8), 5)}, "joint_heads"),
        ({"joint_heads": np.zeros((1, 8), int)}, "joint_heads"),
        ({"confidence": np.full(8, 1.5, np.float32)}, "confidence"),
        ({"confidence": np.full(8, np.nan, np.float32)}, "confidence"),
        ({"confidence": np.zeros(8, int)}, "confidence"),
        ({"part": ["val"] * 8}, "val"),
        ({"id": ["same"] * 8}, "twice"),
        ({"id": [1, 2, 3, 4, 5, 6, 7, 8]}, "id"),
        ({"chosen_head": 2}, "chosen_head"),
        ({"chosen_head": None}, "chosen_head"),
        ({"class_names": ["cat", "cat", "x", "y"]}, "'cat' twice"),
        ({"class_names": ["cat"]}, "num_known"),
        ({"num_known": -1}, "num_known"),
        ({"num_novel": -1}, "num_novel"),
        ({"num_novel": 10**9}, "num_novel"),
        ({"baselines": {"k means": np.zeros(8, int)}}, "k means"),
        ({"baselines": {"kmeans": np.full(8, 3)}}, "baseline_kmeans"),
        ({"baselines": {"kmeans": np.array([0, 1, 2, 0, 0, 0, 0, -1])}}, "1 of 2 novel test"),
    ],
)
def test_a_wrong_table_cannot_be_made(changes, word):
    with pytest.raises(InputError) as caught:
        table(**changes)
    assert word in str(caught.value)


def test_confidence_may_exceed_one_by_rounding():
    slack = table(confidence=np.full(8, 1.0000001, np.float32))
    assert slack.confidence.max() == 1.0


def rewritten(tmp_path, change):
    """Save a sound table, change it as an attacker would, and return its path."""
    path = tmp_path / "p.parquet"
    save_predictions(table(), path)
    pq.write_table(change(pq.read_table(path)), path)
    return path


def with_header(**changes):
    def change(data):
        header = {**json.loads(data.schema.metadata[b"crkd"]), **changes}
        return data.replace_schema_metadata({b"crkd": json.dumps(header)})

    return change


def with_column(name, values):
    def change(data):
        return data.set_column(data.column_names.index(name), name, values)

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda data: data.drop_columns(["joint_head_1"]), "joint_head_1"),
        (lambda data: data.append_column("extra", pa.array([0] * 8)), "extra"),
        (lambda data: data.append_column("id", data["id"]), "twice"),
        (lambda data: data.replace_schema_metadata({}), "metadata"),
        (lambda data: data.replace_schema_metadata({b"crkd": b"{"}), "metadata"),
        (lambda data: data.replace_schema_metadata({b"crkd": b"[" * 10**5}), "metadata"),
        (lambda data: data.replace_schema_metadata({b"crkd": b"\xff\xfe\xfd"}), "metadata"),
        (lambda data: data.replace_schema_metadata({b"crkd": b"[]"}), "metadata"),
        (with_header(schema_version=2), "schema_version"),
        (with_header(num_heads=10**12), "num_heads"),
        (with_header(num_heads=-1), "num_heads"),
        (with_header(num_heads=True), "num_heads"),
        (with_header(num_known="2"), "num_known"),
        (with_header(num_known=5), "num_known"),
        (with_header(num_novel=10**9), "num_novel"),
        (with_header(num_novel=1), "novel_heads"),
        (with_header(chosen_head=7), "chosen_head"),
        (with_header(class_names=["cat", "dog"]), "label"),
        (with_header(class_names=[1, 2, 3, 4]), "class_names"),
        (with_header(baselines=[]), "baseline_kmeans_pixels"),
        (with_header(baselines=[3]), "baseline"),
        (with_header(baselines=["kmeans_pixels"] * 2), "twice"),
        (with_column("label", pa.array([1.0] * 8)), "double"),
        (with_column("label", pa.array([1] * 8, pa.int64())), "int64"),
        (with_column("label", pa.array([99] * 8, pa.int32())), "99"),
        (with_column("label", pa.array([None] * 8, pa.int32())), "missing values"),
        (with_column("id", pa.array([b"x"] * 8)), "binary"),
        (with_column("part", pa.array(["test\n"] * 8)), "part"),
    ],
)
def test_hostile_table_is_refused_with_its_reason(tmp_path, change, word):
    path = rewritten(tmp_path, change)
    with pytest.raises(InputError) as caught:
        load_predictions(path)
    assert word in str(caught.value)
    assert "p.parquet" in str(caught.value)


def test_text_that_is_not_utf8_is_refused(tmp_path):
    raw = pa.Array.from_buffers(pa.string(), 8, pa.array([b"\xff"] * 8).buffers())
    path = rewritten(tmp_path, with_column("id", raw))
    with pytest.raises(InputError, match=r"p\.parquet"):
        load_predictions(path)


def test_row_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions_file, "MAX_ROWS", 7)
    save_predictions(table(), tmp_path / "p.parquet")
    monkeypatch.setattr(pq.ParquetFile, "read", lambda _: pytest.fail("it was read"))
    with pytest.raises(InputError, match="claims 8 rows"):
        load_predictions(tmp_path / "p.parquet")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "p.parquet"
    with pytest.raises(InputError, match="no prediction table"):
        load_predictions(path)
    path.write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match="cannot be read"):
        load_predictions(path)
    save_predictions(table(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        load_predictions(path)


def test_saving_into_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="missing"):
        save_predictions(table(), tmp_path / "missing" / "p.parquet")


def test_unknown_part_is_named():
    with pytest.raises(InputError, match="'val'"):
        table().of("val")


def test_an_interrupted_table_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(content, file, **options):
        file.write(b"half of a table")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_predictions(table(), tmp_path / "predictions.parquet")
    assert not list(tmp_path.iterdir())


def test_a_table_that_a_killed_process_left_is_unfinished(tmp_path, monkeypatch):
    """The next process that resumes the run deletes it."""
    seen = []
    monkeypatch.setattr(
        pq,
        "write_table",
        lambda content, file, **options: seen.extend(tmp_path.iterdir()),
    )
    save_predictions(table(), tmp_path / "predictions.parquet")
    assert [is_unfinished(file) for file in seen] == [True]
