"""Some rows of a file of feature vectors as a file of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd.core.atomic_write import whole_file
from crkd.core.errors import InputError
from crkd.data.vectors.table import FEATURES, ID, LABEL, FeatureTable


def write_rows(table: FeatureTable, rows: NDArray[np.int64], folder: Path, name: str) -> Path:
    """Write rows of a table and return the file; an older file is replaced.

    Rows of a Parquet file keep all their columns and the description of their embedding.

    Args:
        table: as :func:`~crkd.data.vectors.table.read_features` returned it.
        rows: ``(n,)`` positions.
        folder: exists.
        name: of the file, without a suffix.

    Raises:
        InputError: the file cannot be written.
    """
    is_parquet = table.path.suffix.lower() == ".parquet"
    place = folder / f"{name}{'.parquet' if is_parquet else '.npz'}"
    try:
        with whole_file(place) as unfinished, unfinished.open("wb") as file:
            if is_parquet:
                import pyarrow.parquet as pq

                pq.write_table(pq.read_table(table.path).take(rows), file)
            else:
                ids = np.array([table.ids[n] for n in rows])
                columns = {FEATURES: table.features[rows], ID: ids}
                if table.labels is not None:
                    columns[LABEL] = np.array([table.labels[n] for n in rows])
                np.savez(file, **columns)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(
            f"vectors cannot be written to {place} ({error.strerror or error}); give a folder that "
            "is writable"
        ) from error
    return place
