"""Outputs of a discovery on vectors, for image files and files of vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from crkd.core.errors import InputError
from crkd.data.encoded.folder import read_regular
from crkd.data.sources.base import Pixels, UnreadableImageError
from crkd.data.storage.base import Rows
from crkd.data.storage.workers import parallel
from crkd.data.vectors.embedding_file import EmbeddingInfo
from crkd.data.vectors.row_file import VectorRows, stacked
from crkd.data.vectors.same_embedding import check_same_embedding
from crkd.data.vectors.table import Vectors, read_features
from crkd.embedding.pipeline import pixels_of
from crkd.embedding.plan import reopen
from crkd.models.pretrained.embedder import Embedder
from crkd.runs.load import OpenedRun
from crkd.stages.forward import Outputs, forward_batch

VECTOR_SUFFIXES: Final = (".parquet", ".npy", ".npz")


def are_vector_files(arguments: Sequence[str | Path]) -> bool:
    """Return whether all arguments are files of vectors by their suffix."""
    return all(Path(argument).suffix.lower() in VECTOR_SUFFIXES for argument in arguments)


def vectors_of_files(
    opened: OpenedRun, files: Sequence[str | Path]
) -> tuple[list[str], VectorRows]:
    """Return the ids and vectors of files of vectors, which must fit the run.

    Raises:
        InputError: a file is unusable, or its vectors were made otherwise than those of the run.
    """
    tables = [read_features(file) for file in files]
    width = opened.architecture.image_size
    for table in tables:
        check_same_embedding(
            table, opened.info.embedding, str(table.path), f"the run {opened.run.path}"
        )
        if table.features.shape[1] != width:
            raise InputError(
                f"the vectors of {str(table.path)!r} have {table.features.shape[1]} dimensions, "
                f"but the run {opened.run.path} takes {width}; use the same network"
            )
    ids = [name for table in tables for name in table.ids]
    return ids, stacked([table.features for table in tables])


def embedding_of(opened: OpenedRun) -> EmbeddingInfo:
    """Return how the vectors of a run were made.

    Raises:
        InputError: they are of unknown origin.
    """
    if opened.info.embedding is None:
        raise InputError(
            f"{opened.run.path} was made of vectors of unknown origin, so images cannot be "
            "embedded for it; give files of vectors (.parquet, .npy or .npz)"
        )
    values = {**opened.info.embedding, "roots": [], "skipped": 0}
    return EmbeddingInfo.from_plain(values, opened.run.path / "run.json")


def embedder_of(opened: OpenedRun) -> Embedder:
    """Return what embedded the images of a run, in the form that the run stores.

    Raises:
        InputError: the run's vectors are of unknown origin, or its backbone cannot be opened.
    """
    return reopen(embedding_of(opened))


def outputs_of_vectors(
    opened: OpenedRun, vectors: VectorRows, blocks: Sequence[Rows]
) -> Iterator[Outputs]:
    """Yield the network's outputs on batch after batch.

    Args:
        opened: the run.
        vectors: ``(N, D)``, in memory or in files.
        blocks: positions of each batch.
    """
    for block in blocks:
        yield outputs_with_vectors(opened, vectors[block])


def outputs_with_vectors(opened: OpenedRun, vectors: Vectors) -> Outputs:
    """Return the network's outputs on ``(b, D)`` vectors, and the vectors with them."""
    samples = torch.from_numpy(np.ascontiguousarray(vectors))
    outputs = forward_batch(opened.network, samples, lambda batch: batch)
    return dataclasses.replace(outputs, vectors=vectors)


def outputs_of_images(
    opened: OpenedRun,
    embedder: Embedder,
    paths: Sequence[Path],
    blocks: Sequence[Rows],
    unreadable: dict[int, str],
) -> Iterator[Outputs]:
    """Embed image files as the run's images were, and yield the outputs on batch after batch.

    Args:
        opened: the run.
        embedder: as :func:`embedder_of` returns it.
        paths: image files.
        blocks: positions of each batch.
        unreadable: receives the reason for each position that cannot be read; its outputs are
            those of a black image.
    """
    shape = embedder.backbone.preprocessing

    def pixels(row: int) -> Pixels:
        try:
            return pixels_of(read_regular(paths[row]), str(paths[row]), shape)
        except UnreadableImageError as error:
            unreadable[row] = error.reason
            return np.zeros((shape.image_size, shape.image_size, 3), np.uint8)

    def computed(block: Rows) -> Outputs:
        return outputs_with_vectors(opened, embedder(np.stack([pixels(int(row)) for row in block])))

    return parallel(computed, blocks)
