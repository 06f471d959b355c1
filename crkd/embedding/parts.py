"""Vectors that are computed and not yet in the final file, and vectors known by their digest."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.data.vectors.embedding_file import Digests, EmbeddingFile
from crkd.data.vectors.table import Vectors

PART_ROWS: Final = 2048
PART_SECONDS: Final = 30.0
"""Work that a crash can cost."""
_PATTERN: Final = "part-*.npy"


def parts_folder(out: Path) -> Path:
    """Return the folder that holds the progress of an output file while it is unfinished."""
    return out.with_name(f"{out.name}.parts")


class PartWriter:
    """Collects vectors of one process and writes them as parts, each of them atomically.

    Args:
        folder: of the parts.
        rank: number of the process.
        num_features: D.
    """

    def __init__(self, folder: Path, rank: int, num_features: int) -> None:
        self._folder, self._rank = folder, rank
        self._type = part_type(num_features)
        taken = [int(path.stem.split("-")[2]) for path in folder.glob(f"part-{rank:04d}-*.npy")]
        self._number = max(taken, default=-1) + 1
        self._waiting: list[npt.NDArray[np.void]] = []
        self._rows, self._last = 0, time.monotonic()

    def add(self, digests: Sequence[bytes], vectors: Vectors) -> None:
        """Keep the vectors of n images; they are written with the next part.

        Args:
            digests: n digests of 32 bytes.
            vectors: ``(n, D)`` float32.

        Raises:
            InputError: the part cannot be written.
        """
        rows = np.empty(len(digests), self._type)
        rows["sha256"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        rows["vector"] = vectors
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows >= PART_ROWS or time.monotonic() - self._last >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            InputError: the part cannot be written.
        """
        self._last = time.monotonic()
        if not self._rows:
            return
        content = io.BytesIO()
        np.save(content, np.concatenate(self._waiting), allow_pickle=False)
        path = self._folder / f"part-{self._rank:04d}-{self._number:06d}.npy"
        write_bytes(path, content.getvalue())
        self._waiting, self._rows, self._number = [], 0, self._number + 1


def part_type(num_features: int) -> np.dtype[np.void]:
    """Return the type of a row of a part: digest and vector of one image."""
    return np.dtype([("sha256", np.uint8, (32,)), ("vector", "<f4", (num_features,))])


class KnownVectors:
    """Vectors that need not be computed: those of the output file, and those of the parts.

    For each image 48 bytes are in memory; the vectors stay on the disk. One part is mapped at a
    time, because what is read of a mapped file counts as memory of the process.

    Args:
        existing: the output file of an earlier call, or None.
        folder: of the parts.
        num_features: D.

    Raises:
        InputError: a part is damaged.
    """

    def __init__(self, existing: EmbeddingFile | None, folder: Path, num_features: int) -> None:
        self._existing = existing
        self._num_features = num_features
        self._paths = sorted(folder.glob(_PATTERN))
        self._read: tuple[int, Vectors] | None = None
        digests = [np.empty((0, 32), np.uint8)] if existing is None else [existing.digests()]
        digests += [_part(path, num_features)["sha256"].copy() for path in self._paths]
        self._starts = np.cumsum([0, *(len(part) for part in digests)])
        self._digests: Digests = np.concatenate(digests)
        keys = _keys(self._digests)
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._digests)

    def find(self, digest: bytes) -> int:
        """Return the row of a digest, -1 without one. Safe to call from many threads."""
        wanted = np.frombuffer(digest, np.uint8)
        key = _keys(wanted.reshape(1, 32))[0]
        at = int(np.searchsorted(self._keys, key))
        while at < len(self._keys) and self._keys[at] == key:
            row = int(self._order[at])
            if (self._digests[row] == wanted).all():
                return row
            at += 1
        return -1

    def vector(self, row: int) -> npt.NDArray[np.float32]:
        """Return ``(D,)`` float32. It is fast where rows are asked for in ascending order.

        Raises:
            InputError: a part is damaged.
        """
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        at = row - int(self._starts[number])
        if number == 0:
            assert self._existing is not None
            return self._existing.row(at).vector
        if self._read is None or self._read[0] != number:
            part = _part(self._paths[number - 1], self._num_features)
            self._read = (number, part["vector"])
        vector: npt.NDArray[np.float32] = np.array(self._read[1][at])
        return vector


def _part(path: Path, num_features: int) -> npt.NDArray[np.void]:
    try:
        part: npt.NDArray[np.void] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the unfinished part {str(path)!r} is damaged ({reason}); delete it"
        ) from None
    if part.dtype != part_type(num_features) or part.ndim != 1:
        raise InputError(f"the unfinished part {str(path)!r} is of another backbone; delete it")
    return part


def _keys(digests: Digests) -> npt.NDArray[np.uint64]:
    """Return the first eight bytes of each digest as a number."""
    keys: npt.NDArray[np.uint64] = np.ascontiguousarray(digests[:, :8]).view("<u8").ravel()
    return keys
