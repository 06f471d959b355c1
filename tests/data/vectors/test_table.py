from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.errors import InputError
from crkd.data.datasets.features import earlier_rows, feature_dataset
from crkd.data.splits.partition import partition
from crkd.data.vectors.table import read_features

ROWS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def vectors(rows: np.ndarray, kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(rows.tolist(), kind or pa.list_(pa.float32(), rows.shape[1]))


def test_every_form_of_file_gives_the_same_vectors(tmp_path: Path):
    fixed = parquet(tmp_path / "fixed.parquet", f=vectors(ROWS))
    double = parquet(tmp_path / "list.parquet", f=vectors(ROWS, pa.list_(pa.float64())))
    wide = parquet(tmp_path / "wide.parquet", b=ROWS[:, 0], a=ROWS[:, 1].astype(np.float64))
    np.save(tmp_path / "a.npy", ROWS.astype(np.float16))
    np.savez(tmp_path / "a.npz", features=ROWS)
    for file in (fixed, double, wide, tmp_path / "a.npy", tmp_path / "a.npz"):
        table = read_features(file)
        assert table.features.dtype == np.float32
        np.testing.assert_array_equal(table.features, ROWS)
        assert table.labels is None
        assert list(table.ids) == [f"{file.stem}/{row:05d}" for row in range(3)]


def test_chunks_and_slices_of_a_list_column_keep_their_rows(tmp_path: Path):
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    chunked = pa.chunked_array([vectors(rows[:7]), vectors(rows)[7:]])
    pq.write_table(pa.table({"f": chunked}), tmp_path / "f.parquet", row_group_size=3)
    np.testing.assert_array_equal(read_features(tmp_path / "f.parquet").features, rows)


@pytest.mark.parametrize("index", ["__index_level_0__", "position"])
def test_the_index_of_a_pandas_table_is_no_dimension(tmp_path: Path, index: str):
    columns = {"a": ROWS[:, 0], "b": ROWS[:, 1], index: np.array([7, 900, 12])}
    table = pa.table(columns)
    described = json.dumps({"index_columns": [index], "columns": []})
    pq.write_table(table.replace_schema_metadata({"pandas": described}), tmp_path / "f.parquet")
    np.testing.assert_array_equal(read_features(tmp_path / "f.parquet").features, ROWS)


@pytest.mark.parametrize(
    "described",
    ["no JSON", "[]", "{}", '{"index_columns": 3}', '{"index_columns": [{"kind": "range"}]}'],
)
def test_other_metadata_of_a_table_take_no_column_out(tmp_path: Path, described: str):
    table = pa.table({"a": ROWS[:, 0], "b": ROWS[:, 1]})
    pq.write_table(table.replace_schema_metadata({"pandas": described}), tmp_path / "f.parquet")
    np.testing.assert_array_equal(read_features(tmp_path / "f.parquet").features, ROWS)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["cat", None, "dog"], ["cat", "", "dog"]),
        ([7, -1, 10], ["7", "", "10"]),
        (["", "-1", "x"], ["", "-1", "x"]),
    ],
)
def test_labels_and_ids_are_taken_out_of_the_vectors(
    tmp_path: Path, labels: list[Any], expected: list[str]
):
    file = parquet(tmp_path / "f.parquet", label=labels, a=ROWS[:, 0], id=[5, 3, 4], b=ROWS[:, 1])
    table = read_features(file)
    np.testing.assert_array_equal(table.features, ROWS)
    assert table.labels == expected
    assert list(table.ids) == ["5", "3", "4"]


def test_npz_holds_labels_and_ids_too(tmp_path: Path):
    np.savez(tmp_path / "f.npz", features=ROWS, label=["a", "b", ""], id=["x", "y", "z"])
    table = read_features(tmp_path / "f.npz")
    assert table.labels == ["a", "b", ""]
    assert list(table.ids) == ["x", "y", "z"]


BAD_PARQUET: dict[str, tuple[dict[str, Any], str]] = {
    "ragged": ({"f": pa.array([[1.0], [1.0, 2.0]])}, "lengths 1, 2"),
    "empty row": ({"f": pa.array([[1.0], None])}, "empty rows"),
    "null inside": ({"f": pa.array([[1.0], [None]])}, "1 empty values"),
    "null in a column": ({"a": pa.array([1.0, None])}, "1 empty values"),
    "text": ({"f": ["a", "b"]}, "only number columns"),
    "list of text": ({"f": pa.array([["a"], ["b"]])}, "give only numbers"),
    "two lists": ({"f": pa.array([[1.0]]), "g": pa.array([[1.0]])}, "one list column"),
    "labels alone": ({"label": [1, 2]}, "one list column"),
    "no rows": ({"f": pa.array([], pa.list_(pa.float32(), 3))}, "shape"),
    "not finite": ({"f": pa.array([[1.0], [float("nan")]])}, "row 1 .* not a finite"),
    "beyond float32": ({"f": pa.array([[1e300], [1.0]])}, "row 0 .* not a finite"),
    "fractional labels": ({"f": pa.array([[1.0]]), "label": [0.5]}, "neither text nor a whole"),
    "ids repeat": ({"f": pa.array([[1.0], [2.0]]), "id": ["a", "a"]}, "1 different ids for 2"),
}


@pytest.mark.parametrize(("columns", "message"), BAD_PARQUET.values(), ids=BAD_PARQUET)
def test_bad_parquet_is_refused_in_one_sentence(
    tmp_path: Path, columns: dict[str, Any], message: str
):
    file = parquet(tmp_path / "f.parquet", **columns)
    with pytest.raises(InputError, match=message) as caught:
        read_features(file)
    assert str(file) in str(caught.value)


def test_bad_arrays_are_refused_in_one_sentence(tmp_path: Path):
    np.save(tmp_path / "object.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.ones(3))
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    np.savez(tmp_path / "nameless.npz", ROWS)
    np.savez(tmp_path / "short.npz", features=ROWS, label=[1, 2])
    np.savez(tmp_path / "hidden.npz", features=np.array([[None]]))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "broken.npy").write_bytes(b"")
    (tmp_path / "table.csv").write_text("1,2")
    for name, message in {
        "object.npy": "cannot read",
        "flat.npy": r"\(rows, dimensions\)",
        "text.npy": "real numbers",
        "nameless.npz": "no array 'features'",
        "short.npz": "2 labels for 3 vectors",
        "hidden.npz": "cannot read",
        "broken.parquet": "cannot read",
        "broken.npy": "cannot read",
        "table.csv": "suffix '.csv'",
        "absent.npy": "does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            read_features(tmp_path / name)


def table(tmp_path: Path, name: str, rows: np.ndarray, labels: list[Any] | None) -> Any:
    np.savez(tmp_path / name, features=rows, **({} if labels is None else {"label": labels}))
    return read_features(tmp_path / f"{name}.npz")


def test_two_tables_become_a_data_set_and_its_split(tmp_path: Path):
    known = table(tmp_path, "known", ROWS, [10, 9, 10])
    novel = table(tmp_path, "novel", ROWS[:2], ["9", "x"])
    dataset, split = feature_dataset(known, novel)
    assert split.joint_names == ("9", "10", "9 (novel)", "x")
    assert dataset.train.labels.tolist() == [1, 0, 1, 2, 3]
    assert (len(split.known), len(split.novel)) == (2, 2)
    with pytest.raises(InputError, match="not an image"):
        dataset.train.read(0)


def test_labels_of_a_part_of_the_novel_rows_are_left_aside(tmp_path: Path):
    known = table(tmp_path, "known", ROWS, ["a", "b", "a"])
    dataset, split = feature_dataset(known, table(tmp_path, "novel", ROWS[:2], ["c", ""]))
    assert split.novel == ()
    assert dataset.train.labels.tolist() == [0, 1, 0, -1, -1]


def test_samples_of_earlier_steps_are_neither_known_nor_novel(tmp_path: Path):
    known = table(tmp_path, "known", ROWS, ["a", "b", "a"])
    earlier = table(tmp_path, "earlier", ROWS[:2], ["x", "y"])
    novel = table(tmp_path, "novel", ROWS[:1], None)
    names = ("a", "b", "found")
    dataset, split = feature_dataset(known, novel, earlier=[earlier], classes_so_far=names)
    assert split.joint_names == names
    assert split.joint_ids(dataset.train.labels).tolist() == [0, 1, 0, -1, -1, -1]
    assert earlier_rows(dataset.train).tolist() == [3, 4]
    assert list(dataset.train.ids[3:]) == [*earlier.ids, *novel.ids]
    parts = partition(dataset, split, validation_fraction=0.0, seed=0, allow_empty_known=True)
    assert parts.unlabeled.indices.tolist() == [5]
    with pytest.raises(InputError, match="classes that the run does not know: b; restore"):
        feature_dataset(known, novel, classes_so_far=("a", "c"))
    assert not len(earlier_rows(feature_dataset(known, novel)[0].train))


def test_tables_that_do_not_fit_are_refused(tmp_path: Path):
    novel = table(tmp_path, "novel", ROWS, None)
    for name, labels, message in (
        ("none", None, "has no labels"),
        ("some", ["a", "", "b"], "rows without a label"),
        ("one", ["a", "a", "a"], "only the class 'a'"),
    ):
        with pytest.raises(InputError, match=message):
            feature_dataset(table(tmp_path, name, ROWS, labels), novel)
    narrow = table(tmp_path, "narrow", ROWS[:, :1], ["a", "b", "a"])
    with pytest.raises(InputError, match=r"1 dimensions, those of .* have 2"):
        feature_dataset(narrow, novel)
