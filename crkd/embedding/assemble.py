"""The final file of vectors, in the order of the images, from all that is known by digest."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.core.paths import readable
from crkd.data.encoded.listing import Listing, Root
from crkd.data.vectors.embedding_file import (
    ROW_GROUP,
    EmbeddingFile,
    EmbeddingInfo,
    EmbeddingWriter,
    RootEntry,
    writing_embeddings,
)
from crkd.embedding.items import DAMAGED, Items
from crkd.embedding.parts import KnownVectors

_FINAL: Final = "final.unfinished"


class Line(NamedTuple):
    """One row of the final file: id, class or None, digest ``(32,)``, and row of its vector."""

    image_id: str
    label: str | None
    digest: npt.NDArray[np.uint8]
    known_row: int


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
    entries, sources = [], []
    for entry, source in _roots(listing, items, known, existing):
        entries.append(entry)
        sources.append(source)
    made = replace(info, roots=tuple(entries), skipped=len(items.reasons))
    temporary = folder / _FINAL
    try:
        with writing_embeddings(temporary, made) as writer:
            _write(writer, itertools.chain.from_iterable(sources), known, info.num_features)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, out)
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written ({error.strerror or error}); free space and run the "
            "same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return made


def _roots(
    listing: Listing, items: Items, known: KnownVectors, existing: EmbeddingFile | None
) -> Iterator[tuple[RootEntry, Iterator[Line]]]:
    """Yield the folders of the final file with their rows: those of the file, then new ones."""
    named = {readable(root.path): (root.name, span) for root, span in _spans(listing)}
    first = 0
    for entry in () if existing is None else existing.info.roots:
        rows = range(first, first + entry.rows)
        first += entry.rows
        if entry.path not in named:
            assert existing is not None
            yield entry, _kept(existing, rows)
            continue
        name, span = named.pop(entry.path)
        yield RootEntry(name, entry.path, _count(items, span)), _listed(listing, items, known, span)
    for path, (name, span) in named.items():
        yield RootEntry(name, path, _count(items, span)), _listed(listing, items, known, span)


def _spans(listing: Listing) -> Iterator[tuple[Root, range]]:
    first = 0
    for root in listing.roots:
        yield root, range(first, first + len(root))
        first += len(root)


def _count(items: Items, span: range) -> int:
    return int((items.states[span.start : span.stop] != DAMAGED).sum())


def _kept(existing: EmbeddingFile, rows: range) -> Iterator[Line]:
    digests = existing.digests()
    for row in rows:
        found = existing.row(row)
        # The known vectors begin with those of the file.
        yield Line(found.image_id, found.label, digests[row], row)


def _listed(listing: Listing, items: Items, known: KnownVectors, span: range) -> Iterator[Line]:
    for index in span:
        if items.states[index] == DAMAGED:
            continue
        digest = items.digests[index]
        row = known.find(digest.tobytes())
        assert row >= 0, f"no vector of {listing.image_id(index)}"
        yield Line(listing.image_id(index), listing.class_of(index), digest, row)


def _write(
    writer: EmbeddingWriter, lines: Iterator[Line], known: KnownVectors, num_features: int
) -> None:
    while group := list(itertools.islice(lines, ROW_GROUP)):
        vectors = np.empty((len(group), num_features), np.float32)
        # In the order of the source: each group of rows of the old file is read once.
        for place in np.argsort([line.known_row for line in group], kind="stable"):
            vectors[place] = known.vector(group[place].known_row)
        writer.write(
            [line.image_id for line in group],
            [line.label for line in group],
            np.stack([line.digest for line in group]),
            vectors,
        )
