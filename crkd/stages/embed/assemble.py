"""The final file of vectors, in the order of the images, from all that is known by digest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.data.encoded.find import Listing, Root, readable
from crkd.data.vectors.embedding_file import (
    ROW_GROUP,
    EmbeddingFile,
    EmbeddingInfo,
    EmbeddingWriter,
    RootEntry,
    writing_embeddings,
)
from crkd.stages.embed.items import DAMAGED, Items
from crkd.stages.embed.parts import KnownVectors

_FINAL: Final = "final.unfinished"


@dataclass(frozen=True, eq=False)
class Line:
    """One row of the final file, and where its vector is."""

    image_id: str
    label: str | None
    digest: npt.NDArray[np.uint8]
    vector: npt.NDArray[np.float32]


def assemble(
    out: Path,
    folder: Path,
    info: EmbeddingInfo,
    listing: Listing,
    items: Items,
    known: KnownVectors,
    existing: EmbeddingFile | None,
) -> EmbeddingInfo:
    """Write the file of vectors; a crash leaves the old file or the new one.

    Rows of folders that this call did not name are kept. Of the named ones all rows are new, so
    that images that are deleted have none.

    Args:
        out: the file.
        folder: of the parts; the file is made there.
        info: how the vectors were made.
        listing: the images of this call.
        items: what became of them.
        known: all vectors, of the existing file and of the parts.
        existing: the file of an earlier call, or None.

    Returns:
        The description in the file.

    Raises:
        InputError: the file cannot be written.
    """
    named = {readable(root.path): (root.name, span) for root, span in _spans(listing)}
    before = () if existing is None else existing.info.roots
    entries: list[RootEntry] = []
    sources: list[Iterator[Line]] = []
    first = 0
    for entry in before:
        kept = range(first, first + entry.rows)
        first += entry.rows
        if entry.path not in named:
            assert existing is not None
            entries.append(entry)
            sources.append(_kept(existing, kept))
            continue
        name, span = named.pop(entry.path)
        entries.append(RootEntry(name, entry.path, _readable_count(items, span)))
        sources.append(_listed(listing, items, known, span))
    for path, (name, span) in named.items():
        entries.append(RootEntry(name, path, _readable_count(items, span)))
        sources.append(_listed(listing, items, known, span))
    made = replace(info, roots=tuple(entries), skipped=len(items.reasons))
    temporary = folder / _FINAL
    try:
        with writing_embeddings(temporary, made) as writer:
            _write(writer, sources)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, out)
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written ({error.strerror or error}); free space and run the "
            "same command again"
        ) from error
    return made


def _spans(listing: Listing) -> Iterator[tuple[Root, range]]:
    first = 0
    for root in listing.roots:
        yield root, range(first, first + len(root))
        first += len(root)


def _readable_count(items: Items, span: range) -> int:
    return int((items.states[span.start : span.stop] != DAMAGED).sum())


def _kept(existing: EmbeddingFile, rows: range) -> Iterator[Line]:
    digests = existing.digests()
    for row in rows:
        found = existing.row(row)
        yield Line(found.image_id, found.label, digests[row], found.vector)


def _listed(listing: Listing, items: Items, known: KnownVectors, span: range) -> Iterator[Line]:
    for index in span:
        if items.states[index] == DAMAGED:
            continue
        digest = items.digests[index]
        row = known.find(digest.tobytes())
        assert row >= 0, f"no vector of {listing.image_id(index)}"
        yield Line(listing.image_id(index), listing.class_of(index), digest, known.vector(row))


def _write(writer: EmbeddingWriter, sources: list[Iterator[Line]]) -> None:
    waiting: list[Line] = []

    def flush() -> None:
        if waiting:
            writer.write(
                [line.image_id for line in waiting],
                [line.label for line in waiting],
                np.stack([line.digest for line in waiting]),
                np.stack([line.vector for line in waiting]),
            )
            waiting.clear()

    for source in sources:
        for line in source:
            waiting.append(line)
            if len(waiting) == ROW_GROUP:
                flush()
    flush()
