"""Vectors that stay in a file: the same rows as in memory, at a bounded memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.errors import InputError
from crkd.data.vectors import declared_size, numpy_file, row_file, table
from crkd.data.vectors.row_file import RowFile, RowWriter, StackedRows, stacked
from crkd.data.vectors.table import read_features

ROWS = np.random.default_rng(0).normal(size=(1000, 7)).astype(np.float32)


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let vectors of more than 4 KiB stay in files, which are read 64 rows at a time."""
    for module in (table, numpy_file):
        monkeypatch.setattr(module, "IN_MEMORY", 4096)
    monkeypatch.setattr(table, "PIECE_ROWS", 64)


def written(folder: Path, rows: np.ndarray = ROWS) -> RowFile:
    writer = RowWriter(folder / "x.parquet", rows.nbytes)
    for start in range(0, len(rows), 300):
        writer.add(rows[start : start + 300])
    return writer.finished()


INDICES = {
    "slice": slice(3, 950),
    "end": slice(990, None),
    "empty slice": slice(5, 5),
    "runs": np.array([0, 1, 2, 10, 11, 999]),
    "any order, twice": np.array([5, 4, 999, 5, 0]),
    "one": np.array([7]),
    "none": np.empty(0, np.int64),
    "mask": ROWS[:, 0] > 0,
}


@pytest.mark.parametrize("name", INDICES)
def test_rows_of_a_file_are_those_of_the_array(tmp_path: Path, name: str) -> None:
    index = INDICES[name]
    found = written(tmp_path)[index]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ROWS[index])


@pytest.mark.parametrize("name", INDICES)
def test_stacked_rows_are_those_of_all_parts(tmp_path: Path, name: str) -> None:
    both = stacked([ROWS[:400], written(tmp_path, ROWS[400:])])
    assert isinstance(both, StackedRows)
    assert both.shape == (1000, 7)
    np.testing.assert_array_equal(both[INDICES[name]], ROWS[INDICES[name]])
    np.testing.assert_array_equal(np.asarray(both), ROWS)


def test_arrays_in_memory_are_stacked_in_memory() -> None:
    assert isinstance(stacked([ROWS[:4], ROWS[4:]]), np.ndarray)


def test_a_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step 2"):
        written(tmp_path)[::2]


def test_all_rows_at_once_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = written(tmp_path)
    np.testing.assert_array_equal(np.asarray(rows), ROWS)
    monkeypatch.setattr(declared_size, "free_host_bytes", lambda: 27_999)
    with pytest.raises(InputError, match=r"reading 1,000 vectors at once needs 27\.3 KiB"):
        np.asarray(rows)


def test_a_file_that_was_shortened_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    rows = RowFile((tmp_path / "x.npy").open("rb"), ROWS.shape, 128)
    np.testing.assert_array_equal(rows[990:], ROWS[990:])
    os.truncate(tmp_path / "x.npy", 10_000)
    with pytest.raises(InputError, match=r"x.npy' was shortened"):
        rows[990:]


def save_lists(file: Path, rows: np.ndarray) -> None:
    columns = {"id": [f"r{n}" for n in range(len(rows))], "label": ["a", "b"] * (len(rows) // 2)}
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    pq.write_table(pa.table({**columns, "f": vectors}), file, row_group_size=150)


def save_numbers(file: Path, rows: np.ndarray) -> None:
    columns = {f"f{n}": rows[:, n].astype(np.float64) for n in range(rows.shape[1])}
    pq.write_table(pa.table({"label": [1] * len(rows), **columns}), file)


def save_npz(file: Path, rows: np.ndarray) -> None:
    np.savez_compressed(file, features=rows, label=np.arange(len(rows)) % 3)


FORMS: dict[str, tuple[str, Callable[[Path, np.ndarray], None]]] = {
    "lists": ("x.parquet", save_lists),
    "numbers": ("x.parquet", save_numbers),
    "npz": ("x.npz", save_npz),
    "npy": ("x.npy", np.save),
    "npy of float64": ("x.npy", lambda file, rows: np.save(file, rows.astype(np.float64))),
    "npy of float16": ("x.npy", lambda file, rows: np.save(file, rows.astype(np.float16))),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_large_file_gives_what_it_gives_in_memory(
    tmp_path: Path, form: str, request: pytest.FixtureRequest
) -> None:
    name, save = FORMS[form]
    save(tmp_path / name, ROWS)
    expected = read_features(tmp_path / name)
    assert isinstance(expected.features, np.ndarray)
    request.getfixturevalue("in_files")
    found = read_features(tmp_path / name)
    assert isinstance(found.features, RowFile)
    np.testing.assert_array_equal(np.asarray(found.features), expected.features)
    assert (found.labels, list(found.ids)) == (expected.labels, list(expected.ids))
    assert os.listdir(tmp_path) == [name], "a temporary file has no name that could remain"


@pytest.mark.usefixtures("in_files")
@pytest.mark.parametrize("form", FORMS)
def test_a_value_that_is_not_finite_is_named(tmp_path: Path, form: str) -> None:
    name, save = FORMS[form]
    rows = ROWS.copy()
    rows[700, 3] = np.nan
    save(tmp_path / name, rows)
    with pytest.raises(InputError, match=r"row 700 of the feature file .* finite float32"):
        read_features(tmp_path / name)


@pytest.mark.usefixtures("in_files")
def test_vectors_of_several_lengths_are_refused(tmp_path: Path) -> None:
    lists = [[1.0, 2.0]] * 500 + [[1.0]] * 500
    pq.write_table(pa.table({"f": lists}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"vectors of the lengths 1, 2; give every row"):
        read_features(tmp_path / "x.parquet")


@pytest.mark.usefixtures("in_files")
@pytest.mark.parametrize("form", ["lists", "npz"])
def test_a_full_disk_is_reported_before_the_work(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, save = FORMS[form]
    save(tmp_path / name, ROWS)
    monkeypatch.setattr(
        row_file.shutil, "disk_usage", lambda place: type("Use", (), {"free": 5000})()
    )
    with pytest.raises(InputError, match=r"do not fit into a temporary file .*; free space there"):
        read_features(tmp_path / name)


@pytest.mark.parametrize("form", ["lists", "npz", "npy"])
def test_the_memory_does_not_grow_with_the_vectors(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 MB of vectors are read with less than 6 MB."""
    rows = np.random.default_rng(0).standard_normal((20_000, 256), dtype=np.float32)
    name, save = FORMS[form]
    save(tmp_path / name, rows)
    monkeypatch.setattr(numpy_file, "_CHUNK", 1 << 20)
    monkeypatch.setattr(table, "PIECE_ROWS", 512)
    for module in (table, numpy_file):
        monkeypatch.setattr(module, "IN_MEMORY", 1 << 20)
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    tracemalloc.start()
    found = read_features(tmp_path / name)
    assert found.features[19_000:].shape == (1000, 256)
    assert tracemalloc.get_traced_memory()[1] < 6 << 20
    tracemalloc.stop()
    assert pool.bytes_allocated() - before < 1 << 20
