"""Images of Parquet files in pieces: any size of a group, any order, many threads."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core import parquet_file
from crkd.data.encoded import EncodedTable, table_pieces
from crkd.data.sources.base import UnreadableImageError

LIMIT = 4000
"""Bytes of a nested column that pyarrow decodes at once in these tests, instead of 2 GiB."""


def images_of(sizes: list[int]) -> list[bytes]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, size, np.uint8).tobytes() for size in sizes]


def write(path: Path, images: list[bytes | None], group_rows: int | None = None) -> Path:
    rows = [{"bytes": image, "path": None} for image in images]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(rows, kind)})
    pq.write_table(table, path, row_group_size=group_rows)
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Let pyarrow refuse nested columns above the limit; returns groups and rows of all batches."""
    batches: list[tuple[int, int]] = []
    whole, pieces = pq.ParquetFile.read_row_group, pq.ParquetFile.iter_batches

    def checked(found: Any) -> Any:
        if found.nbytes > LIMIT:
            raise pa.ArrowNotImplementedError("Nested data conversions not implemented")
        return found

    def iter_batches(self: Any, *args: Any, **options: Any) -> Iterator[Any]:
        for batch in pieces(self, *args, **options):
            batches.append((options["row_groups"][0], len(batch)))
            yield checked(batch)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *a, **o: checked(whole(*a, **o)))
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    return batches


def test_a_group_above_the_limit_of_pyarrow_is_read_once(
    tmp_path: Path, decoded: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_file, "PIECE_BYTES", 2000)
    images = images_of([300] * 100)
    table = EncodedTable(write(tmp_path / "t.parquet", images))
    assert [table.read(row) for row in range(100)] == images
    assert sum(rows for _, rows in decoded) == 100
    # Pieces that are kept are not decoded again.
    assert [table.read(row) for row in reversed(range(100))] == images[::-1]
    assert sum(rows for _, rows in decoded) == 100


@pytest.mark.usefixtures("decoded")
def test_a_few_images_far_larger_than_the_others_are_read(tmp_path: Path) -> None:
    """64 rows of the mean size fit into a piece, the 64 largest ones do not."""
    images = images_of([1] * 200 + [900] * 70 + [1] * 30)
    table = EncodedTable(write(tmp_path / "t.parquet", images))
    assert [table.read(row) for row in range(300)] == images


def test_large_groups_are_kept_where_the_memory_is_free(
    tmp_path: Path, decoded: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_file, "PIECE_BYTES", 1000)
    monkeypatch.setattr(table_pieces, "KEPT_BYTES", 1000)
    images = images_of([300] * 40)
    for free, again in ((10**9, False), (20_000, True)):
        monkeypatch.setattr(table_pieces, "free_host_bytes", lambda free=free: free)
        table = EncodedTable(write(tmp_path / "t.parquet", images))
        decoded.clear()
        assert [table.read(row) for row in reversed(range(40))] == images[::-1]
        assert (sum(rows for _, rows in decoded) > 40) == again
        del table
        gc.collect()


def test_pieces_that_are_no_longer_kept_are_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_file, "PIECE_BYTES", 2000)
    monkeypatch.setattr(table_pieces, "KEPT_BYTES", 5000)
    monkeypatch.setattr(table_pieces, "free_host_bytes", lambda: 0)
    gc.collect()
    images: list[bytes | None] = [*images_of([300] * 100)]
    images[70] = None
    table = EncodedTable(write(tmp_path / "t.parquet", images, 40))
    for row in np.random.default_rng(1).permutation(100).tolist():
        if row == 70:
            with pytest.raises(UnreadableImageError, match="the row holds no image"):
                table.read(row)
        else:
            assert table.read(row) == images[row]
        assert table_pieces._KEPT._bytes <= 5000


def test_pieces_of_a_table_are_dropped_with_it(tmp_path: Path) -> None:
    gc.collect()
    before = table_pieces._KEPT._bytes
    table = EncodedTable(write(tmp_path / "t.parquet", [b"x" * 500] * 10))
    table.read(0)
    assert table_pieces._KEPT._bytes > before
    del table
    gc.collect()
    assert table_pieces._KEPT._bytes == before


def test_threads_read_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_file, "PIECE_BYTES", 1000)
    monkeypatch.setattr(table_pieces, "KEPT_BYTES", 8000)
    monkeypatch.setattr(table_pieces, "free_host_bytes", lambda: 0)
    images = images_of([300] * 120)
    table = EncodedTable(write(tmp_path / "t.parquet", images, 30))
    rows = np.random.default_rng(1).integers(0, 120, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(table.read, rows)) == [images[row] for row in rows]


def test_groups_are_decoded_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both decodings wait for each other: one lock for all groups would let them wait in vain."""
    images = images_of([300] * 4)
    table = EncodedTable(write(tmp_path / "t.parquet", images, 2))
    both, pieces = threading.Barrier(2, timeout=20), pq.ParquetFile.iter_batches
    whole = pq.ParquetFile.read_row_group

    def iter_batches(*args: Any, **options: Any) -> Iterator[Any]:
        both.wait()
        yield from pieces(*args, **options)

    def read_row_group(*args: Any, **options: Any) -> Any:
        both.wait()
        return whole(*args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(table.read, [0, 2])) == [images[0], images[2]]


def test_a_damaged_group_is_decoded_once(
    tmp_path: Path, decoded: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images before the damage are read; those of other groups too."""
    monkeypatch.setattr(parquet_file, "PIECE_BYTES", 1500)
    images = images_of([300] * 12)
    table = EncodedTable(write(tmp_path / "t.parquet", images, 6))
    opened: list[int] = []
    pieces = pq.ParquetFile.iter_batches

    def damaged(*args: Any, **options: Any) -> Iterator[Any]:
        opened.append(options["row_groups"][0])
        for number, batch in enumerate(pieces(*args, **options)):
            if options["row_groups"] == [0] and number == 1:
                raise OSError("Unexpected end of stream")
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", damaged)
    assert [table.read(row) for row in range(3)] == images[:3]
    for row in (3, 4, 5):
        with pytest.raises(UnreadableImageError, match=r"000000\d.*Unexpected end of stream"):
            table.read(row)
    assert [table.read(row) for row in range(6, 12)] == images[6:]
    assert opened == [0, 1]


def test_an_error_of_the_drive_does_not_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of([300] * 4)
    table = EncodedTable(write(tmp_path / "t.parquet", images))
    pieces, calls = pq.ParquetFile.iter_batches, []

    def once_broken(*args: Any, **options: Any) -> Iterator[Any]:
        calls.append(options)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        yield from pieces(*args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", once_broken)
    with pytest.raises(UnreadableImageError, match="Input/output error"):
        table.read(0)
    assert [table.read(row) for row in range(4)] == images
