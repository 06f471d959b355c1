"""Parquet files of vectors that ``crkd embed`` makes: their columns, metadata and row groups.

Columns: ``id`` (text), ``label`` (text, null without a class), ``sha256`` (32 bytes, of the encoded
image), ``vector`` (fixed-size list of float32). :func:`crkd.data.vectors.read_features` reads them
as it reads vectors of other programs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.core.parquet_file import native_file
from crkd.core.parquet_footer import column_chunks
from crkd.data.vectors.declared_size import check_declared_size, parquet_bytes
from crkd.data.vectors.table import DIGEST, ID, LABEL, METADATA, Vectors, described

VECTOR: Final = "vector"
ROW_GROUP: Final = 4096
"""Rows that are in memory at once: 21 MB of 1280 numbers each."""

Digests = npt.NDArray[np.uint8]


class Row(NamedTuple):
    """One row of a file of vectors: id, class or None, and ``(D,)`` float32."""

    image_id: str
    label: str | None
    vector: npt.NDArray[np.float32]


@dataclass(frozen=True)
class RootEntry:
    """One folder, tar file or table of a file of vectors; its rows follow each other.

    Attributes:
        name: with what the ids begin.
        path: where it was, absolute.
        rows: number of its rows.
    """

    name: str
    path: str
    rows: int


@dataclass(frozen=True)
class EmbeddingInfo:
    """Origin of the vectors of a file.

    Attributes:
        crkd: version of the program.
        backbone: name of the pretrained backbone.
        weights_sha256: digest of its weights.
        num_features: D, the length of a vector.
        preprocessing: plain values of ``crkd.models.pretrained.Preprocessing``.
        form: plain values of ``crkd.models.pretrained.Form``.
        roots: folders and files of the images, in the order of the rows.
        skipped: number of images that cannot be read.
    """

    crkd: str
    backbone: str
    weights_sha256: str
    num_features: int
    preprocessing: dict[str, Any]
    form: dict[str, Any]
    roots: tuple[RootEntry, ...] = ()
    skipped: int = 0

    @classmethod
    def from_plain(cls, values: dict[str, Any], file: Path) -> EmbeddingInfo:
        """Return the description that the metadata of ``file`` hold.

        Raises:
            InputError: a value is missing or of the wrong type.
        """
        try:
            roots = tuple(RootEntry(**root) for root in values["roots"])
            info = cls(**{**values, "roots": roots})
            sound = (
                all(isinstance(v, str) for v in (info.crkd, info.backbone, info.weights_sha256))
                and isinstance(info.preprocessing, dict)
                and isinstance(info.form, dict)
                and isinstance(info.num_features, int)
                and all(isinstance(root.rows, int) and root.rows >= 0 for root in roots)
            )
        except (KeyError, TypeError):
            sound = False
        if not sound:
            raise InputError(
                f"the metadata of the vectors {str(file)!r} are damaged or of another version; "
                "delete the file and embed again"
            )
        return info


def read_info(file: Path) -> EmbeddingInfo:
    """Return how the vectors of a file were made.

    Raises:
        InputError: the file is missing, damaged, or not of ``crkd embed``.
    """
    with EmbeddingFile(file) as opened:
        return opened.info


class EmbeddingFile:
    """A file of vectors, read group by group of rows.

    Args:
        file: the file.

    Attributes:
        info: how the vectors were made.

    Raises:
        InputError: the file is missing, damaged, or not of ``crkd embed``.
    """

    def __init__(self, file: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        self._path = file
        try:
            chunks = column_chunks(file)
            self._source = native_file(file)
            self._file = pyarrow.parquet.ParquetFile(self._source)
            values = described(self._file.schema_arrow.metadata, file)
            missing = {ID, LABEL, DIGEST, VECTOR} - set(self._file.schema_arrow.names)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot read the vectors {str(file)!r}: {' '.join(str(error).split())}; name "
                "another file"
            ) from None
        if values is None or missing:
            self._source.close()
            raise InputError(
                f"{str(file)!r} is not a file of crkd embed; name another file, so that it is kept"
            )
        self.info = EmbeddingInfo.from_plain(values, file)
        meta = self._file.metadata
        # A group of rows is in memory at once, and so are all digests.
        largest = max((parquet_bytes([group]) for group in chunks), default=0)
        check_declared_size(file, largest + 32 * meta.num_rows)
        lengths = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        self._starts = np.cumsum([0, *lengths])
        self._group: tuple[int, list[str], list[str | None], Vectors] | None = None

    def __enter__(self) -> EmbeddingFile:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._source.close()

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._starts[-1])

    def digests(self) -> Digests:
        """Return ``(N, 32)`` uint8, the digest of every image.

        Raises:
            InputError: the file is damaged.
        """
        import pyarrow

        try:
            column = self._file.read(columns=[DIGEST]).column(0)
        except (pyarrow.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        if column.type != pyarrow.binary(32) or column.null_count or len(column) != len(self):
            raise self._damaged(ValueError(f"no 32 bytes for each row in the column {DIGEST!r}"))
        parts = [np.empty(0, np.uint8)]
        for chunk in column.chunks:
            # The bytes themselves: an object for each of a million digests takes 65 MB.
            values = np.frombuffer(chunk.buffers()[1], np.uint8)
            parts.append(values[32 * chunk.offset : 32 * (chunk.offset + len(chunk))])
        return np.concatenate(parts).reshape(-1, 32)

    def row(self, row: int) -> Row:
        """Return a row; the group of rows that was read last is kept.

        Raises:
            InputError: the file is damaged.
        """
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if self._group is None or self._group[0] != group:
            self._group = (group, *self._read(group))
        _, ids, labels, vectors = self._group
        at = row - int(self._starts[group])
        return Row(ids[at], labels[at], vectors[at])

    def _read(self, group: int) -> tuple[list[str], list[str | None], Vectors]:
        import pyarrow

        try:
            table = self._file.read_row_group(group, columns=[ID, LABEL, VECTOR])
            # Offsets and texts of a damaged file may point anywhere.
            table.validate(full=True)
            flat = table.column(VECTOR).combine_chunks().flatten().to_numpy()
            ids, labels = table.column(ID).to_pylist(), table.column(LABEL).to_pylist()
            vectors = flat.reshape(-1, self.info.num_features)
            expected = int(self._starts[group + 1] - self._starts[group])
            if not len(ids) == len(labels) == len(vectors) == expected:
                raise ValueError(f"a group of {expected:,} rows has columns of other lengths")
            return ids, labels, vectors
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> InputError:
        reason = " ".join(str(error).split())
        return InputError(
            f"the vectors {str(self._path)!r} are damaged ({reason}); delete the file and embed "
            "again"
        )


class EmbeddingWriter:
    """Writes rows of vectors; equal rows make equal files."""

    def __init__(self, writer: Any, schema: Any, num_features: int) -> None:
        self._writer, self._schema, self._num_features = writer, schema, num_features

    def write(
        self,
        ids: Sequence[str],
        labels: Sequence[str | None],
        digests: Digests,
        vectors: Vectors,
    ) -> None:
        """Write a group of rows, ``ROW_GROUP`` of them except at the end.

        Args:
            ids: n texts.
            labels: n texts or None.
            digests: ``(n, 32)`` uint8.
            vectors: ``(n, D)`` float32.
        """
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        columns = [
            pa.array(ids, pa.string()),
            pa.array(labels, pa.string()),
            pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(32), len(ids), [None, pa.py_buffer(np.ascontiguousarray(digests))]
            ),
            pa.FixedSizeListArray.from_arrays(flat, self._num_features),
        ]
        self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=ROW_GROUP)


@contextlib.contextmanager
def writing_embeddings(file: Path, info: EmbeddingInfo) -> Iterator[EmbeddingWriter]:
    """Give what writes the rows of a new file.

    Args:
        file: is made or replaced.
        info: how the vectors were made, with the number of rows of every root.
    """
    import pyarrow as pa
    import pyarrow.parquet

    item = pa.field("item", pa.float32(), nullable=False)
    schema = pa.schema(
        [
            pa.field(ID, pa.string(), nullable=False),
            pa.field(LABEL, pa.string()),
            pa.field(DIGEST, pa.binary(32), nullable=False),
            pa.field(VECTOR, pa.list_(item, info.num_features), nullable=False),
        ]
    ).with_metadata({METADATA: json.dumps(asdict(info), ensure_ascii=False)})
    # Vectors hardly compress, and a dictionary of digests or vectors takes time for nothing.
    with (
        native_file(file, "wb") as sink,
        pyarrow.parquet.ParquetWriter(
            sink,
            schema,
            compression={ID: "zstd", LABEL: "zstd", DIGEST: "none", VECTOR: "none"},
            use_dictionary=[LABEL],
        ) as writer,
    ):
        yield EmbeddingWriter(writer, schema, info.num_features)
