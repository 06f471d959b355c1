from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.parquet_footer import MAX_FOOTER, column_chunks, most_values

WIDE = pa.table({f"d{place}": np.arange(30, dtype=np.float32) for place in range(20)})
NESTED = pa.table(
    {
        "vector": [[1.0, 2.0], [3.0], []],
        "image": [{"bytes": b"x", "path": None}] * 3,
        "on": [True, None, False],
        "id": ["a", "b", "c"],
        "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    }
)
TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY")


@pytest.mark.parametrize("table", [WIDE, NESTED, WIDE.slice(0, 0)], ids=["wide", "nested", "empty"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_sizes_are_those_of_pyarrow(tmp_path: Path, table: pa.Table, compression: str) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(table, file, row_group_size=2, compression=compression)
    metadata = pq.ParquetFile(file).metadata
    expected = [
        [
            (TYPES.index(c.physical_type), c.num_values, c.total_uncompressed_size)
            for c in map(metadata.row_group(group).column, range(metadata.num_columns))
        ]
        for group in range(metadata.num_row_groups)
    ]
    assert [[tuple(chunk) for chunk in group] for group in column_chunks(file)] == expected


def test_one_row_may_hold_many_values(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"f": pa.array([np.zeros(100_000, np.float32)]), "id": ["a"]}), file)
    chunks = column_chunks(file)
    assert pq.ParquetFile(file).metadata.num_rows == 1
    assert file.stat().st_size < 10_000
    assert (most_values(chunks), most_values(chunks, {1}), most_values(chunks, ())) == (10**5, 1, 0)


def footer(file: Path, content: bytes) -> Path:
    file.write_bytes(b"PAR1" + content + len(content).to_bytes(4, "little") + b"PAR1")
    return file


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_an_entry_that_is_there_twice_counts_with_its_larger_value(tmp_path: Path) -> None:
    # Fields 4 (list of one struct), 1 (the same), 3 (struct): type 1, values 9 and then 7, bytes 3.
    metadata = b"\x15\x02" + b"\x46\x12" + b"\x06\x0a\x0e" + b"\x16\x06" + b"\x00"
    content = b"\x49\x1c" + b"\x19\x1c" + b"\x3c" + metadata + b"\x00" + b"\x00" + b"\x00"
    assert column_chunks(footer(tmp_path / "x", content)) == [[(1, 9, 3)]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut off"),
        (b"\x19", "cut off"),
        (b"\x4c" + b"\x1c" * 40, "nested too deeply"),
        (b"\x19" * 2 + b"\x19" * 100, "nested too deeply"),
        (b"\x1f\x00", "unknown type 15"),
        (b"\x49\xf5" + varint(10**9), "another type"),
        (b"\x45\x02\x00", "field 4 of another type"),
        (b"\x16" + b"\xff" * 12, "more than 64 bits"),
        (b"\x18" + varint(2**60), "cut off"),
        (b"\x49\x1c" + b"\x19\x1c" + b"\x00" * 3, "0 descriptions"),
        (b"\x49\x1c\x19\x1c\x3c\x56\x01" + b"\x00" * 4, "negative size"),
    ],
)
def test_damaged_footers_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(OSError, match=reason):
        column_chunks(footer(tmp_path / "x", content))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for content, reason in (
        (b"PAR1", "4 bytes are no Parquet file"),
        (b"x" * 20, "does not end with the footer"),
        (b"PAR1" + b"\x00\x00\x00\x70" + b"PAR1", "does not end with the footer"),
    ):
        file.write_bytes(content)
        with pytest.raises(OSError, match=reason):
            column_chunks(file)
    with file.open("wb") as stream:
        stream.truncate(MAX_FOOTER + 1)
        stream.seek(MAX_FOOTER + 1)
        stream.write((MAX_FOOTER + 1).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(OSError, match="at most"):
        column_chunks(file)
