"""Digests of the samples of a run, from which a resumed run learns that its data has changed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError, listed
from crkd.core.parquet_file import native_file
from crkd.core.parquet_footer import column_chunks
from crkd.data.vectors.declared_size import check_declared_size, parquet_bytes
from crkd.runs.atomic_files import check_regular

FILE: Final = "samples.parquet"
"""In a run folder until the run is complete."""
BYTES: Final = 16
SHOWN: Final = 3

Digests = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SampleDigests:
    """Names and digests of the samples of a run, or of the parts of a named data set.

    Attributes:
        ids: N unique names.
        digests: ``(N, 16)`` uint8, which change with the content of a sample.
    """

    ids: Sequence[str]
    digests: Digests

    def sha256(self) -> str:
        """Return one digest of all samples, in their order, for the provenance of a run."""
        found = hashlib.sha256()
        for name, digest in zip(self.ids, self.digests, strict=True):
            found.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest.tobytes())
        return found.hexdigest()

    def write(self, folder: Path) -> None:
        """Write them into a run folder."""
        import pyarrow as pa
        import pyarrow.parquet

        packed = pa.py_buffer(np.ascontiguousarray(self.digests).tobytes())
        digests = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(BYTES), len(self.digests), [None, packed]
        )
        content = io.BytesIO()
        table = pa.table({"id": pa.array(list(self.ids), pa.string()), "digest": digests})
        pyarrow.parquet.write_table(table, content, compression="zstd")
        write_bytes(folder / FILE, content.getvalue())

    @classmethod
    def read(cls, folder: Path) -> SampleDigests | None:
        """Read them from a run folder; None where there are none.

        Raises:
            InputError: the file is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet

        path = folder / FILE
        check_regular(path)
        if not path.is_file():
            return None
        try:
            check_declared_size(path, parquet_bytes(column_chunks(path)))
            with native_file(path) as source:
                table = pyarrow.parquet.read_table(source)
            # Offsets and texts of a damaged file may point anywhere.
            table.validate(full=True)
            ids = table.column("id").to_pylist()
            rows = table.column("digest").to_pylist()
            digests = np.frombuffer(b"".join(rows), np.uint8).reshape(len(ids), BYTES)
        except InputError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path} is damaged ({reason}); restore it") from None
        return cls(ids, digests)

    def changes(self, now: SampleDigests) -> str:
        """Return in words what is different now; an empty text if nothing is.

        >>> before = SampleDigests(["a", "b"], np.zeros((2, 16), np.uint8))
        >>> before.changes(SampleDigests(["b", "c"], np.ones((2, 16), np.uint8)))
        "1 missing ('a'), 1 new ('c'), 1 with other content ('b')"
        """
        then = dict(zip(self.ids, map(bytes, self.digests), strict=True))
        here = dict(zip(now.ids, map(bytes, now.digests), strict=True))
        parts = (
            ("missing", [name for name in then if name not in here]),
            ("new", [name for name in here if name not in then]),
            (
                "with other content",
                [name for name in then if name in here and then[name] != here[name]],
            ),
        )
        found = [
            f"{len(names):,} {kind} ({listed(map(repr, names), SHOWN)})"
            for kind, names in parts
            if names
        ]
        if not found and list(then) != list(here):
            found = ["the order of the samples"]
        return ", ".join(found)


def remove_sample_digests(folder: Path) -> None:
    """Delete the digests of a run that is finished."""
    (folder / FILE).unlink(missing_ok=True)
