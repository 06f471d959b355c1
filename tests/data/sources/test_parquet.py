import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from crkd.core import parquet_file
from crkd.core.errors import InputError
from crkd.data.sources import parquet as module
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.parquet import ParquetSource
from crkd.data.vectors import declared_size


def encode(pixels: np.ndarray, kind: str = "WEBP") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def write(
    path: Path,
    images: list[bytes | None],
    labels: list[int],
    names: list[str] | None = None,
    row_group_size: int = 3,
) -> Path:
    column = pa.array(
        [{"bytes": image, "path": None} for image in images],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"img": column, "label": pa.array(labels, pa.int64())})
    if names is not None:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def source(*files: Path, **options: object) -> ParquetSource:
    return ParquetSource(files, image_column="img", label_column="label", **options)


def images(count: int, size: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_rows_of_all_shards_in_order(tmp_path: Path, kind: str) -> None:
    pixels = images(11)
    encoded = [encode(image, kind) for image in pixels]
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]
    first = write(tmp_path / "a.parquet", encoded[:7], labels[:7], ["x", "y", "z"])
    second = write(tmp_path / "b.parquet", encoded[7:], labels[7:], ["x", "y", "z"])
    read = source(first, second)
    assert read.labels.tolist() == labels
    assert read.class_names == ("x", "y", "z")
    assert read.image_format() == kind
    for row in range(11):
        np.testing.assert_array_equal(read.read(row), pixels[row])
    whole = read.pixels()
    assert whole is not None
    np.testing.assert_array_equal(whole, pixels.transpose(0, 3, 1, 2))
    assert read.pixels() is whole  # decoded once
    np.testing.assert_array_equal(read.read(10), pixels[10])
    assert read.content_digest() == source(first, second).content_digest()
    write(tmp_path / "b.parquet", [*encoded[7:10], None], labels[7:], ["x", "y", "z"])
    assert source(first, second).content_digest() != read.content_digest()


def test_general_decoder_takes_over_within_a_block(tmp_path: Path) -> None:
    pixels = images(3)
    mixed = [encode(pixels[0]), encode(pixels[1], "PNG"), encode(pixels[2], "BMP")]
    whole = source(write(tmp_path / "a.parquet", mixed, [0, 0, 0], ["x"])).pixels()
    assert whole is not None
    np.testing.assert_array_equal(whole, pixels.transpose(0, 3, 1, 2))


def test_unequal_or_oblong_or_huge_sets_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unequal = [encode(images(1, 8)[0]), encode(images(1, 9)[0])]
    assert source(write(tmp_path / "a.parquet", unequal, [0, 0], ["x"])).pixels() is None
    oblong = encode(images(1, 8)[0][:4])
    assert source(write(tmp_path / "b.parquet", [oblong], [0], ["x"])).pixels() is None
    monkeypatch.setattr(module, "MAX_BYTES_AT_ONCE", 8 * 8 * 3)
    two = [encode(image) for image in images(2)]
    assert source(write(tmp_path / "c.parquet", two, [0, 0], ["x"])).pixels() is None


def test_bad_rows_are_named(tmp_path: Path) -> None:
    good = encode(images(1)[0])
    path = write(tmp_path / "a.parquet", [good, b"junk", None], [0, 0, 0], ["x"], row_group_size=1)
    read = source(path)
    with pytest.raises(UnreadableImageError, match=r"a\.parquet row 1"):
        read.read(1)
    with pytest.raises(UnreadableImageError, match=r"row 2.*holds no image"):
        read.read(2)
    with pytest.raises(UnreadableImageError, match="row 1"):
        read.pixels()


def test_files_that_do_not_fit_are_explained(tmp_path: Path) -> None:
    good = encode(images(1)[0])
    with pytest.raises(InputError, match="does not name the classes"):
        source(write(tmp_path / "a.parquet", [good], [0]))
    with pytest.raises(InputError, match="labels span"):
        source(write(tmp_path / "b.parquet", [good], [7], ["x"]))
    pq.write_table(pa.table({"label": [0]}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match="no column img"):
        source(tmp_path / "c.parquet")
    pq.write_table(pa.table({"img": [b""], "label": [0]}), tmp_path / "d.parquet")
    with pytest.raises(InputError, match="must be a struct"):
        source(tmp_path / "d.parquet")
    table = pa.table({"img": [{"bytes": good}], "label": ["cat"]})
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(InputError, match="of type string"):
        source(tmp_path / "e.parquet")
    (tmp_path / "f.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot read the Parquet file"):
        source(tmp_path / "f.parquet")


def test_given_class_names_win(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [encode(images(1)[0])], [1])
    assert source(path, class_names=["x", "y"]).class_names == ("x", "y")


def test_files_above_the_limit_of_pyarrow_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyarrow decodes up to 2 GiB of a nested column at once; here 4,000 bytes."""
    whole, pieces = pq.ParquetFile.read, pq.ParquetFile.iter_batches

    def checked(found: Any) -> Any:
        if found.nbytes > 4000:
            raise pa.ArrowNotImplementedError("Nested data conversions not implemented")
        return found

    def iter_batches(*args: Any, **options: Any) -> Iterator[Any]:
        yield from map(checked, pieces(*args, **options))

    monkeypatch.setattr(pq.ParquetFile, "read", lambda *a, **o: checked(whole(*a, **o)))
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    pixels = images(100)
    encoded = [encode(image) for image in pixels]
    path = write(tmp_path / "a.parquet", encoded, [0] * 100, ["x"], row_group_size=100)
    for piece in (parquet_file.PIECE_BYTES, 2000):
        monkeypatch.setattr(parquet_file, "PIECE_BYTES", piece)
        read = source(path)
        for row in range(100):
            np.testing.assert_array_equal(read.read(row), pixels[row])


def test_equal_images_beyond_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dictionary stores them once, and the file declares them once."""
    path = write(tmp_path / "a.parquet", [b"x" * 5000] * 1000, [0] * 1000, ["x"], 1000)
    assert len(source(path)) == 1000
    monkeypatch.setattr(declared_size, "free_host_bytes", lambda: 1_000_000)
    with pytest.raises(InputError, match=r"holds more than 976\.6 KiB of values"):
        source(path)
