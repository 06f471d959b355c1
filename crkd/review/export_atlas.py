"""Discovered classes with map positions and neighbors, as a Parquet table for Embedding Atlas."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.neighbors import nearest_neighbors
from crkd.clustering.projection_2d import project_2d
from crkd.core.atomic_write import write_bytes
from crkd.core.paths import readable
from crkd.review.run_outputs import Evidence, gather

NEIGHBORS: Final = 15
COMMAND: Final = "embedding-atlas FILE --x x --y y --neighbors neighbors"


def export_atlas(path: str | Path, out: Path | None = None) -> tuple[Path, int]:
    """Write the unlabeled training images of a run as a table.

    Columns: ``id``; ``path`` (null without a file); ``class``, ``kind`` ("known", "novel" or
    "none", where a person took the image out) and ``decided_by`` ("person" or "model");
    ``disputed``, the known class that the joint prediction would give (null for none);
    ``confidence`` of the class in [0, 1]; ``x`` and ``y``, positions on the map of the review page;
    and ``neighbors``, a struct of ``ids`` (rows of this table, from 0) and ``distances``
    (1 - cosine).

    Args:
        path: the run folder of a finished discovery.
        out: the file; None is ``atlas.parquet`` in the run folder.

    Returns:
        The file written, and the number of images in it.

    Raises:
        InputError: the run has no novel classes or no images, or the images are not found.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    evidence = gather(path, torch.device("cpu"))
    target = out or evidence.opened.run.path / "atlas.parquet"
    images, classes = evidence.images, evidence.opened.info.classes
    labels = [evidence.reviewed.get(image) for image in images.ids]
    taken_out = [label is not None and label.taken_out for label in labels]
    files = [images.source.file(int(index)) for index in images.indices]
    places = project_2d(evidence.outputs.features, evidence.assigned)
    near, distances = _neighbors(evidence)
    found = [int(number) for number in evidence.assigned]
    table = pa.table(
        {
            "id": pa.array(images.ids, pa.string()),
            "path": pa.array([None if f is None else readable(f) for f in files], pa.string()),
            "class": [
                "none" if out_of_all else evidence.names[number]
                for number, out_of_all in zip(found, taken_out, strict=True)
            ],
            "kind": [
                "none" if out_of_all else classes[number].kind
                for number, out_of_all in zip(found, taken_out, strict=True)
            ],
            "decided_by": [
                "person" if label is not None and label.by_person else "model" for label in labels
            ],
            "disputed": pa.array(
                [evidence.names[known] if known >= 0 else None for known in evidence.disputed],
                pa.string(),
            ),
            "confidence": pa.array(evidence.confidence, pa.float32()),
            "x": pa.array(places[:, 0], pa.float32()),
            "y": pa.array(places[:, 1], pa.float32()),
            "neighbors": pa.StructArray.from_arrays(
                [
                    pa.array(list(near), pa.list_(pa.int32())),
                    pa.array(list(distances), pa.list_(pa.float32())),
                ],
                names=["ids", "distances"],
            ),
        }
    )
    content = io.BytesIO()
    pq.write_table(table, content)
    write_bytes(target, content.getvalue())
    return target, len(images)


def _neighbors(evidence: Evidence) -> tuple[NDArray[np.int64], Floats]:
    """Return the nearest images of each image, ``(N, n)``, and their cosine distances."""
    rows = np.asarray(evidence.projected)
    count = min(NEIGHBORS, max(len(rows) - 1, 1))
    near = nearest_neighbors(rows, count, seed=0)
    cosines = np.stack([(rows * rows[near[:, n]]).sum(axis=1) for n in range(count)], axis=1)
    return near, np.asarray(1 - cosines, np.float32)
