"""Image source of Parquet files in the layout of the Hugging Face hub.

A struct column holds the encoded image (``bytes``, ``path``), and an integer column the labels. The
class names are in the schema's metadata under the key ``huggingface``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from crkd.core.errors import InputError, listed
from crkd.core.parquet_file import in_pieces, native_file, rows_of_a_piece
from crkd.core.parquet_footer import column_chunks
from crkd.data.sources.base import ImageSource, Labels, Pixels, RowIds, UnreadableImageError
from crkd.data.sources.decode import decode_image
from crkd.data.sources.webp import decode_lossless_webp
from crkd.data.storage.workers import parallel
from crkd.data.vectors.declared_size import DecodedBytes, check_declared_size, parquet_bytes

MAX_BYTES_AT_ONCE: Final = 1024 * 1024 * 1024
"""Size up to which ``ParquetSource.pixels`` decodes the whole set into one array."""

_BLOCK_ROWS: Final = 512


class _Shard(NamedTuple):
    """Contiguous rows in memory: encoded images, and their origin."""

    encoded: Any
    file: Path
    first_row: int


class ParquetSource(ImageSource):
    """Rows of one or more Parquet files, in file and row order.

    The encoded bytes stay in memory; images are decoded when read.

    Args:
        files: the shards, in order; at least one.
        image_column: name of the struct column with the field ``bytes``.
        label_column: name of the integer column.
        class_names: the classes in label order; None takes them from the schema's metadata.
        part: prefix of the ids ("train/00012").

    Raises:
        InputError: a file is not Parquet, lacks a column, names no classes, or has labels
            out of range.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        image_column: str,
        label_column: str,
        class_names: Sequence[str] | None = None,
        part: str = "train",
    ) -> None:
        shards: list[_Shard] = []
        labels: list[Labels] = []
        for file in files:
            table = _read_table(file, image_column, label_column)
            labels.append(_label_column(table.column(label_column), file))
            shards += _encoded_images(table.column(image_column), file)
            if class_names is None:
                class_names = _class_names(table.schema.metadata, label_column, file)
        joined = np.concatenate(labels)
        super().__init__(joined, class_names or (), RowIds(part, len(joined)))
        self._shards = shards
        self._decoded: Pixels | None = None
        self._starts = np.cumsum([0, *(len(shard.encoded) for shard in shards)])

    def read(self, index: int) -> Pixels:
        """Return image ``index`` as ``(H, W, 3)`` uint8, RGB."""
        return self._image(index, None)

    def read_small(self, index: int, at_least: int) -> Pixels:
        """Return image ``index`` as :meth:`read`; a JPEG may be smaller."""
        return self._image(index, at_least)

    def _image(self, index: int, at_least: int | None) -> Pixels:
        if self._decoded is not None:
            decoded: Pixels = self._decoded[index].transpose(1, 2, 0)
            return decoded
        shard, row = self._locate(index)
        encoded = self._encoded(shard, row)
        image = decode_lossless_webp(encoded)
        if image is not None:
            return np.ascontiguousarray(image.transpose(1, 2, 0))
        return decode_image(bytes(encoded), _where(shard, row), at_least=at_least)

    def pixels(self) -> Pixels | None:
        """Return all images as ``(N, 3, S, S)`` uint8 if equal-sized and at most 1 GiB.

        They are decoded once, in parallel, and kept, because several subsets of a run use them.
        """
        if self._decoded is None:
            self._decoded = self._decode_all()
        return self._decoded

    def _content(self) -> Iterator[bytes | memoryview]:
        """Yield all encoded images."""
        for shard in self._shards:
            for value in shard.encoded:
                yield memoryview(value.as_buffer()) if value.is_valid else b""

    def image_format(self) -> str:
        """Return Pillow's format name of the first image: "WEBP", "JPEG", "PNG" or ""."""
        head = bytes(self._encoded(*self._locate(0))[:12]) if len(self) else b""
        magic = {b"\xff\xd8": "JPEG", b"\x89P": "PNG", b"RI": "WEBP"}
        return magic.get(head[:2], "")

    def _locate(self, index: int) -> tuple[_Shard, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._shards[number], int(index - self._starts[number])

    def _encoded(self, shard: _Shard, row: int) -> memoryview:
        value = shard.encoded[row]
        if not value.is_valid:
            raise UnreadableImageError(_where(shard, row), "the row holds no image")
        return memoryview(value.as_buffer())

    def _decode_all(self) -> Pixels | None:
        if not len(self):
            return None
        height, width, _ = self.read(0).shape
        if height != width or len(self) * 3 * height * width > MAX_BYTES_AT_ONCE:
            return None
        out = np.empty((len(self), 3, height, width), dtype=np.uint8)
        starts = range(0, len(self), _BLOCK_ROWS)
        equal = all(parallel(lambda start: self._decode_block(start, out), starts))
        out.flags.writeable = False
        return out if equal else None

    def _decode_block(self, start: int, out: Pixels) -> bool:
        """Decode up to ``_BLOCK_ROWS`` images into ``out``; return whether all have its size."""
        size = out.shape[-1]
        for index in range(start, min(start + _BLOCK_ROWS, len(self))):
            shard, row = self._locate(index)
            encoded = self._encoded(shard, row)
            image = decode_lossless_webp(encoded, size)
            if image is None:
                decoded = decode_image(bytes(encoded), _where(shard, row))
                if decoded.shape != (size, size, 3):
                    return False
                image = decoded.transpose(2, 0, 1)
            out[index] = image
        return True


def _where(shard: _Shard, row: int) -> str:
    return f"{shard.file} row {shard.first_row + row}"


def _read_table(file: Path, image_column: str, label_column: str) -> Any:
    import pyarrow

    try:
        declared = parquet_bytes(column_chunks(file))
        check_declared_size(file, declared)
        with native_file(file) as source:
            parquet = in_pieces(source)
            missing = {image_column, label_column} - set(parquet.schema_arrow.names)
            if missing:
                raise InputError(
                    f"the Parquet file {str(file)!r} has no column {listed(sorted(missing))} (it "
                    f"has {listed(parquet.schema_arrow.names)}); check that it is the right file"
                )
            rows = rows_of_a_piece(declared, parquet.metadata.num_rows)
            try:
                return _columns(parquet, file, [image_column, label_column], rows)
            except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowCapacityError):
                # The rows of a piece are far larger than the others.
                return _columns(parquet, file, [image_column, label_column], 1)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot read the Parquet file {str(file)!r}: {reason}; fetch it again"
        ) from error


def _columns(parquet: Any, file: Path, columns: list[str], rows: int) -> Any:
    """Return columns of a file as a table with a chunk for each piece."""
    import pyarrow

    decoded = DecodedBytes(file)
    pieces = []
    for batch in parquet.iter_batches(batch_size=rows, columns=columns):
        # Offsets and texts of a damaged file may point anywhere.
        batch.validate(full=True)
        decoded.add(batch.nbytes)
        pieces.append(batch)
    schema = parquet.schema_arrow
    fields = [schema.field(name) for name in schema.names if name in columns]
    return pyarrow.Table.from_batches(pieces, pyarrow.schema(fields, schema.metadata))


def _label_column(column: Any, file: Path) -> Labels:
    import pyarrow

    if not pyarrow.types.is_integer(column.type) or column.null_count:
        raise InputError(
            f"the labels in the Parquet file {str(file)!r} are of type {column.type} with "
            f"{column.null_count} empty rows; give one integer a row, -1 for unlabeled"
        )
    labels: Labels = column.to_numpy().astype(np.int64)
    return labels


def _encoded_images(column: Any, file: Path) -> list[_Shard]:
    import pyarrow
    import pyarrow.compute

    kind = column.type
    if not pyarrow.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise InputError(
            f"the images in the Parquet file {str(file)!r} are of type {kind}; they must be a "
            "struct with the field 'bytes', as the Hugging Face hub stores images"
        )
    shards = []
    first_row = 0
    for chunk in column.chunks:
        encoded = pyarrow.compute.struct_field(chunk, "bytes")
        shards.append(_Shard(encoded, file, first_row))
        first_row += len(chunk)
    return shards


def _class_names(
    metadata: dict[bytes, bytes] | None, label_column: str, file: Path
) -> tuple[str, ...]:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label_column]["names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError(type(names).__name__)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the Parquet file {str(file)!r} does not name the classes of {label_column!r} in its "
            "metadata under 'huggingface' (info.features.<label>.names); give class names"
        ) from error
    return tuple(names)
