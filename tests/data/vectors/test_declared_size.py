from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.errors import InputError
from crkd.core.parquet_footer import column_chunks
from crkd.data.encoded.table import EncodedTable
from crkd.data.sources.parquet import ParquetSource
from crkd.data.vectors import declared_size
from crkd.data.vectors.declared_size import parquet_bytes
from crkd.data.vectors.table import read_features


def images_of(file: Path) -> ParquetSource:
    return ParquetSource([file], image_column="image", label_column="label")


@pytest.fixture
def equal_rows(tmp_path: Path) -> Path:
    """A million equal rows in a few kilobytes."""
    file = tmp_path / "equal.parquet"
    pq.write_table(pa.table({"a": np.zeros(1_000_000, np.float32)}), file)
    assert file.stat().st_size < 10_000
    return file


def test_equal_rows_are_refused_by_their_declared_size(
    equal_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(read_features(equal_rows)) == 1_000_000, "small files are read"
    monkeypatch.setattr(declared_size, "SMALL", 1 << 20)
    monkeypatch.setattr(pq, "read_table", lambda *a, **o: pytest.fail("the values were read"))
    with pytest.raises(InputError, match=r"declares 3.8 MiB of values, more than 200 times its"):
        read_features(equal_rows)


@pytest.mark.parametrize("kind", ["parquet", "npy", "npz"])
def test_values_beyond_the_free_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    file = tmp_path / f"x.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"f": list(rows)}), file)
    elif kind == "npy":
        np.save(file, rows)
    else:
        np.savez(file, features=rows)
    assert len(read_features(file)) == 50
    monkeypatch.setattr(declared_size, "free_host_bytes", lambda: 700)
    with pytest.raises(InputError, match=r"needs .* of memory, and 700 bytes are free"):
        read_features(file)


def test_the_declared_size_of_a_table_is_that_of_its_decoded_values(tmp_path: Path) -> None:
    table = pa.table({"f": [[1.0, 2.0]] * 1000, "label": ["a"] * 1000})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=250)
    groups = column_chunks(tmp_path / "x.parquet")
    assert parquet_bytes(groups) == 1000 * (2 * 8 + 64)
    assert parquet_bytes(groups[1:2]) == 250 * (2 * 8 + 64)
    assert parquet_bytes(groups, {1}) == 1000 * 64


def test_one_row_of_many_equal_values_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number of rows and the bytes of its group are small."""
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"f": pa.array([np.zeros(1_000_000, np.float32)])}), file)
    assert read_features(file).features.shape == (1, 1_000_000)
    monkeypatch.setattr(declared_size, "SMALL", 1 << 20)
    with pytest.raises(InputError, match=r"declares 3.8 MiB of values, more than 200 times its"):
        read_features(file)


@pytest.mark.parametrize("reader", [EncodedTable, images_of], ids=["table", "source"])
def test_images_that_declare_too_much_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reader: Callable[[Path], EncodedTable | ParquetSource],
) -> None:
    """100,000 rows without an image take a few bytes of the file."""
    file = tmp_path / "x.parquet"
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = {"image": pa.nulls(100_000, kind), "label": np.zeros(100_000, np.int64)}
    names = json.dumps({"info": {"features": {"label": {"names": ["a"]}}}})
    table = pa.table(columns).replace_schema_metadata({"huggingface": names})
    pq.write_table(table, file)
    assert len(reader(file)) == 100_000
    monkeypatch.setattr(declared_size, "SMALL", 1 << 20)
    with pytest.raises(InputError, match=r"MiB of values, more than 200 times its"):
        reader(file)
