"""A long text that a file stores once and repeats in many rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.errors import InputError
from crkd.data.encoded.table import EncodedTable
from crkd.data.vectors import declared_size, repeated_texts, table
from crkd.data.vectors.table import read_features

KINDS = [
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.dictionary(pa.int32(), pa.string()),
]


def written(file: Path, texts: list[str | None], kind: pa.DataType = KINDS[0]) -> Path:
    values = pa.array(texts).dictionary_encode() if pa.types.is_dictionary(kind) else texts
    columns = {"label": pa.array(values, kind), "f": np.arange(float(len(texts)))}
    pq.write_table(pa.table(columns), file, row_group_size=600)
    return file


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "in pieces"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_repeated_text_is_refused_before_it_is_decoded(
    tmp_path: Path, kind: pa.DataType, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 MB in a file of some kilobytes, which declares a tenth of them."""
    file = written(tmp_path / "x.parquet", ["a" * 2000, None] * 1000, kind)
    monkeypatch.setattr(table, "IN_MEMORY", (1 << 20) if in_memory else 1000)
    monkeypatch.setattr(table, "PIECE_BYTES", 1000)
    for module in (declared_size, repeated_texts):
        monkeypatch.setattr(module, "SMALL", 1000)
    monkeypatch.setattr(declared_size, "MAX_RATIO", 10_000)
    monkeypatch.setattr(declared_size, "free_host_bytes", lambda: 1_900_000)
    monkeypatch.setattr(table, "_columns", lambda *a: pytest.fail("the texts were decoded"))
    with pytest.raises(InputError, match=r"holds more than 1\.8 MiB of values"):
        read_features(file)


def test_texts_that_fit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str | None] = [*map(str, range(1000)), None] + ["a" * 50] * 999
    file = written(tmp_path / "x.parquet", texts)
    for module in (declared_size, repeated_texts):
        monkeypatch.setattr(module, "SMALL", 1000)
    assert read_features(file).labels == [text or "" for text in texts]


def test_a_repeated_class_of_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"image": [{"bytes": b"x"}] * 1000, "label": ["a" * 2000] * 1000}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert len(EncodedTable(tmp_path / "x.parquet")) == 1000
    monkeypatch.setattr(repeated_texts, "SMALL", 1000)
    monkeypatch.setattr(declared_size, "free_host_bytes", lambda: 1_900_000)
    with pytest.raises(InputError, match=r"holds more than 1\.8 MiB of values"):
        EncodedTable(tmp_path / "x.parquet")
